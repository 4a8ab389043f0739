"""Templates in use give the text that transformers gives; those without an end are ended."""
# ruff: noqa: E501  # templates have the lines that they have

import resource
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from gptft.inspection.chat_template import check_template
from gptft.tokenization.chat_template import TooMuch, render_chat

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}"
    "{% endif %}{% endfor %}"
)
LLAMA3 = """\
{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
    {%- endfor %}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" ~ system_message ~ "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
QWEN = """\
{%- macro render_content(content, do_count) %}
    {%- if content is string %}{{- content }}
    {%- else %}
        {%- for item in content %}{{- item.text }}{%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = render_content(message.content, true)|trim %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.last or (not loop.last and reasoning_content) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
OTHERS = {
    "generation": "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}\n{% else %}"
    "{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}\n{% endif %}{% endfor %}",
    "loopcontrols": "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}"
    "{{ loop.index }}/{{ loop.length }} {{ loop.last }} {{ m.content }}\n{% endfor %}",
    "blocks of set": "{% set x %}<{{ messages[0].content }}>{% endset %}{{ x * 3 }}{{ x | upper }}",
    "filters": "{{ messages | map(attribute='content') | join('|') }} {{ messages | tojson }} "
    "{{ messages[0].content | replace('a', 'bb') | indent(4) | center(60) }}{{ '%s:%5d' % ('a', 7) }}"
    "{{ 'x={}'.format(3) }} {{ ['b', 'a'] | sort | list }} {{ messages | selectattr('role', 'equalto', "
    "'user') | list | length }} {{ {'a': (1, 2)} }} {{ 7 // 2 }} {{ 2 ** 10 }} {{ 1.5 * 3 }}",
    "recursion": "{% macro m(n) %}{{ n }}{% if n %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(9) }}"
    "{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}"
    "{% endif %}{% endfor %}",
    "the date": "{{ strftime_now('%Y') }}{{ messages[0].content }}",
    "a call": "{% macro b(n) %}[{{ caller(n) }}]{% endmacro %}{% call(x) b('q') %}{{ x }}{% endcall %}"
    "{% filter upper %}a{{ messages[0].content }}{% endfilter %}{{ dict(a=1) }}{{ range(5) | list }}",
    "text that is not HTML": "<b>{{ messages[0].content | e }}</b>{{ '<' }}{{ none }}{{ nosuch }}",
}
TEMPLATES = {"ChatML": CHATML, "Llama 2": LLAMA2, "Llama 3": LLAMA3, "Qwen": QWEN, **OTHERS}
CHATS = (
    [("user", "Кто написал «Онегина»?")],
    [("user", "a\n<b> & 'c'\n\n"), ("assistant", "<think>\nx\n</think>\n\nPushkin.  ")],
    [("user", ""), ("assistant", "Frost"), ("user", "  and sunshine {{ 1 }} ")],
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    """What has special tokens that templates name."""
    backend = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1}, unk_token="</s>"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("prompted", [False, True])
@pytest.mark.parametrize("chat", CHATS, ids=["one", "two", "three"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_in_use_gives_the_text_of_transformers(
    name: str, chat: list[tuple[str, str]], prompted: bool, tokenizer: PreTrainedTokenizerBase
) -> None:
    messages = [{"role": role, "content": content} for role, content in chat]
    stock = tokenizer.apply_chat_template(
        messages, chat_template=TEMPLATES[name], add_generation_prompt=prompted, tokenize=False
    )
    ours = render_chat(
        TEMPLATES[name], messages, add_generation_prompt=prompted,
        special_tokens=tokenizer.special_tokens_map,
    )  # fmt: skip
    assert ours == stock
    assert ours


LOOP = "{% for i in range(99999) %}"
TWICE = "{% for i in range(60) %}"
HOSTILE = {
    "a long range": "{% for i in range(10**12) %}{% endfor %}",
    "loops in loops": f"{LOOP}{LOOP}{LOOP}{{% endfor %}}{{% endfor %}}{{% endfor %}}",
    "loops in loops that write": f"{LOOP}{LOOP}abc{{% endfor %}}{{% endfor %}}",
    "a text times a number": "{{ 'a' * 10**10 }}",
    "a list times a number": "{{ [1] * 10**10 }}",
    "a number times a text": "{{ 10**9 * 'a' }}",
    "a tower": "{{ 10**(10**10) }}",
    "squares": "{% set ns = namespace(x=7) %}" + TWICE + "{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "sums": "{% set ns = namespace(x='ab') %}" + TWICE + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "joined": "{% set ns = namespace(x='ab') %}" + TWICE + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "written": "{% set ns = namespace(x='ab') %}"
    + TWICE + "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "lists in lists": "{% set ns = namespace(x=[1]) %}"
    + TWICE + "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "pairs of pairs": "{% set ns = namespace(x=1) %}"
    + TWICE + "{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ ns.x == ns.x }}",
    "mappings in mappings": "{% set ns = namespace(x={}) %}"
    + TWICE + "{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x | tojson }}",
    "dict": "{% set ns = namespace(x=1) %}"
    + TWICE + "{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x | string }}",
    "namespaces in namespaces": "{% set ns = namespace(x=1) %}" + TWICE
    + "{% set n = namespace() %}{% set n.a = ns.x %}{% set n.b = ns.x %}{% set ns.x = n %}"
    "{% endfor %}{{ ns.x }}",
    "a macro in itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a macro twice in itself": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}"
    "{% endmacro %}{{ m(40) }}",
    "replace": "{% set a = 'a' * 99999 %}{{ a.replace('a', a) }}",
    "replace, a filter": "{% set a = 'a' * 99999 %}{{ a | replace('a', a) }}",
    "join": "{% set a = 'a' * 99999 %}{{ a.join(a) }}",
    "join, a filter": "{% set a = 'a' * 99999 %}{{ a | join(a) }}",
    "center": "{{ 'a'.center(10**9) }}",
    "center, a filter": "{{ 'a' | center(10**9) }}",
    "zfill": "{{ 'a'.zfill(10**9) }}",
    "expandtabs": "{{ ('\\t' * 99999).expandtabs(9999) }}",
    "indent": "{{ ('a\\n' * 99999) | indent(9999) }}",
    "indent by a text": "{{ ('a\\n' * 99999) | indent('b' * 99999) }}",
    "batch": "{{ [1] | batch(10**9, 'a') | list }}",
    "a width": "{{ '%999999999d' % 1 }}",
    "a width that is given": "{{ '%*d' % (10**9, 1) }}",
    "a width in braces": "{{ '{:>999999999}'.format(1) }}",
    "a width in braces that is given": "{{ '{:>{}}'.format(1, 10**9) }}",
    "a filter that formats": "{{ '%999999999d' | format(1) }}",
    "fields": "{{ ('{0}' * 99999).format('a' * 99999) }}",
    "words": "{{ lipsum(n=10**9) }}",
    "map": "{{ ['a'] | map('center', 10**9) | list }}",
    "indented JSON": "{{ [1] | tojson(indent=10**9) }}",
    "shifted sums": "{{ range(99999) | list | map('string') | sum(start='') }}",
    "tags": "{{ ('<!--' * 99999) | striptags }}",
    "stripped": "{% set a = 'a' * 99999 %}{{ a.strip('b' * 9999 + 'a') }}",
    "groups in groups": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "long": "a" * 1_000_000,
}  # fmt: skip


@pytest.fixture
def little_memory():
    """Less than what any of these would take."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (used * resource.getpagesize() + 2**29, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_without_an_end_is_ended(name: str, little_memory: None, monkeypatch) -> None:
    monkeypatch.setattr("gptft.tokenization.chat_template._STEPS", 20_000)
    begun = time.monotonic()
    with pytest.raises(Exception, match=r".") as caught:
        render_chat(
            HOSTILE[name], [{"role": "user", "content": "a"}], add_generation_prompt=True,
            special_tokens={},
        )  # fmt: skip
    assert time.monotonic() - begun < 2
    assert not isinstance(caught.value, MemoryError)
    check = check_template(HOSTILE[name], special_tokens={})
    assert len(check.problems) == 1


def test_time_is_a_bound_where_steps_are_not(monkeypatch) -> None:
    monkeypatch.setattr("gptft.tokenization.chat_template._SECONDS", 0.05)
    with pytest.raises(TooMuch, match=r"it takes over 0.05 s, more than a chat template may"):
        render_chat(
            f"{LOOP}{LOOP}{{% endfor %}}{{% endfor %}}", [], add_generation_prompt=True,
            special_tokens={},
        )  # fmt: skip


def test_a_long_prompt_is_not_too_much() -> None:
    prompt = "Мороз и солнце; день чудесный! " * 100_000
    for source in (CHATML, LLAMA3, QWEN):
        text = render_chat(
            source, [{"role": "user", "content": prompt}], add_generation_prompt=True,
            special_tokens={"bos_token": "<s>"},
        )  # fmt: skip
        assert prompt.strip() in text


def test_the_time_can_be_given() -> None:
    text = render_chat(
        "{{ strftime_now('%d.%m.%Y') }}", [], add_generation_prompt=True, special_tokens={},
        now=datetime(2000, 1, 2),
    )  # fmt: skip
    assert text == "02.01.2000"
