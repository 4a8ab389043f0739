"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const element = (tag, text, className) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  // A decimal comma and a space between thousands, where the page is Russian.
  const local = (text) => about && about.lang === "ru" ?
    text.replace(/[.,]/g, (sign) => sign === "." ? "," : "\u202f") : text;
  const thousands = (value) => local(value.toLocaleString("en"));
  const say = (key, values = {}) =>
    about.words[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const percent = (p) => p === 0 ? "\u2014" : local(p > 0.9995 ? ">99.9%" : p < 0.0001 ? "<0.01%" :
    `${(100 * p).toPrecision(3)}%`);
  const prompt = byId("prompt"), strategy = byId("strategy"), problem = byId("problem");
  let about = null, writing = null, shownTab = "text";
  const given = {};  // what was changed, by strategy and setting

  const complain = (text) => {
    problem.textContent = text || "";
    problem.hidden = !text;
  };

  // Settings: a control for each, a slider where it is a number between two others.
  const bounds = (schema) => {
    const found = {};
    const walk = (part) => {
      for (const key of ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"]) {
        if (part[key] !== undefined && Math.abs(part[key]) < 1e6) found[key] = part[key];
      }
      (part.anyOf || part.allOf || []).forEach(walk);
    };
    walk(schema);
    return found;
  };
  const usualEnd = { temperature: 2, top_k: 200, max_new_tokens: 300, repetition_penalty: 2,
    num_beams: 10, no_repeat_ngram_size: 10, min_new_tokens: 100, num_candidates: 16 };
  const control = (setting) => {
    const id = `setting-${setting.name}`, box = element("div", undefined, "setting");
    box.lang = setting.lang || "en";  // names and descriptions are those of the command line
    const label = element("label", setting.name);
    label.htmlFor = id;
    label.title = setting.description;
    const own = given[strategy.value] || (given[strategy.value] = {});
    const value = setting.name in own ? own[setting.name] : setting.default;
    const keep = (changed) => {
      if (changed === null) delete own[setting.name];
      else own[setting.name] = changed;
      later();
    };
    const isNumber = typeof setting.default === "number" ||
      ["number", "whole number"].includes(setting.kind);
    let input;
    if (typeof setting.default === "boolean") {
      input = element("input");
      input.type = "checkbox";
      input.checked = value;
      input.addEventListener("input", () => keep(input.checked));
    } else if (setting.choices.length) {
      input = element("select");
      for (const choice of setting.choices) {
        const option = element("option", choice);
        option.value = choice;
        input.append(option);
      }
      input.value = value;
      input.addEventListener("input", () => keep(input.value));
    } else if (isNumber) {
      const range = bounds(setting.schema), isWhole = setting.schema.type === "integer" ||
        JSON.stringify(setting.schema).includes('"integer"') && Number.isInteger(setting.default ?? 0);
      const low = range.minimum ?? range.exclusiveMinimum, step = isWhole ? 1 : 0.01;
      const high = range.maximum ?? range.exclusiveMaximum ?? usualEnd[setting.name];
      input = element("input");
      input.type = "number";
      input.step = isWhole ? 1 : "any";
      input.value = value ?? "";
      input.placeholder = "\u2014";
      input.addEventListener("input", () => keep(input.value === "" ? null : +input.value));
      if (low !== undefined && high !== undefined) {
        const slider = element("input");
        slider.type = "range";
        slider.step = step;
        slider.min = range.exclusiveMinimum === undefined ? low : low + step;
        slider.max = range.exclusiveMaximum === undefined ? high : high - step;
        slider.value = value ?? slider.min;
        slider.setAttribute("aria-label", setting.name);
        slider.addEventListener("input", () => {
          input.value = slider.value;
          keep(+slider.value);
        });
        input.addEventListener("input", () => { slider.value = input.value; });
        input.id = id;
        box.append(label, input, slider);
        box.title = `${setting.description} ${setting.range}`.trim();
        return box;
      }
    } else {
      input = element("input");
      input.type = "text";
      input.value = value === null || value === undefined ? "" :
        typeof value === "string" ? value : JSON.stringify(value);
      input.placeholder = setting.kind;
      input.addEventListener("input", () => {
        if (input.value.trim() === "") return keep(null);
        try {
          keep(JSON.parse(input.value));
        } catch {
          keep(input.value);
        }
      });
    }
    input.id = id;
    box.title = `${setting.description} ${setting.range}`.trim();
    box.append(label, input);
    return box;
  };
  const showSettings = () => {
    const row = about.strategies.find((one) => one.name === strategy.value);
    const description = element("span", row.description);
    description.lang = "en";
    byId("described").replaceChildren(description, row.needs.length ?
      ` ${say("needs", { packages: row.needs.join(` ${about.words.or} `) })}` : "");
    byId("settings").replaceChildren(...row.settings.map(control));
    const seed = { name: "seed", description: about.words.seed_about, lang: about.lang,
      default: null, kind: "whole number", choices: [], range: "", schema: { type: "integer" } };
    byId("others").replaceChildren(...(row.draws === "never" ? [] : [control(seed)]),
      ...row.others.map(control));
  };
  const settings = () => ({ strategy: strategy.value, ...given[strategy.value] });

  const post = async (path, body, signal) => {
    const answer = await fetch(path, { method: "POST", signal, body: JSON.stringify(body),
      headers: { "Content-Type": "application/json" } });
    if (!answer.ok) throw new Error((await answer.json()).error);
    return answer;
  };

  // Writing.
  const unescapeBytes = (hex) => Uint8Array.from(hex.match(/../g) || [], (two) => parseInt(two, 16));
  const drawTokens = (which, done) => {
    const place = byId(`text-${which}`), decoder = new TextDecoder();
    place.replaceChildren(element("span", done.prompt, "given"));
    let before = done.prompt;
    let waiting = [];
    for (const token of done.tokens) {
      waiting.push(token);
      const text = decoder.decode(unescapeBytes(token.bytes), { stream: true });
      if (!text && token !== done.tokens.at(-1)) continue;  // a character isn't whole yet
      const button = element("span", text, text.includes("\n") ? "token ends-line" : "token");
      const shown = waiting, start = before;
      button.tabIndex = 0;
      button.setAttribute("role", "button");
      const bits = -Math.log2(Math.max(Math.min(...shown.map((one) => one.probability)), 1e-9));
      button.style.setProperty("--doubt", `${Math.min(100, 100 * bits / 12)}%`);
      button.title = shown.map((one) => `${one.shown} ${percent(one.probability)}`).join(", ");
      button.addEventListener("click", () => choose(button, shown, start));
      button.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          choose(button, shown, start);
        }
      });
      place.append(button);
      before += text;
      waiting = [];
    }
    const settings = element("span", `${done.settings}. `);
    settings.lang = "en";
    byId(`told-${which}`).replaceChildren(settings,
      `${about.words[`stopped_${done.stopped}`]} ${about.words.doubt}`);
  };
  const choose = (button, shown, start) => {
    document.querySelectorAll(".written .token").forEach((one) =>
      one.setAttribute("aria-pressed", one === button));
    byId("chosen").hidden = false;
    byId("chosen-token").textContent = shown.map((one) => one.shown).join("");
    byId("chosen-about").textContent = shown.map((one) =>
      say("rank", { token: one.shown, probability: percent(one.probability),
        rank: thousands(one.rank) })).join("; ") + `. ${about.words.choose_another}`;
    const rows = shown[0].runners_up.map((other) => {
      const row = element("tr"), named = element("th"), cell = element("td");
      named.scope = "row";
      const text = other.text;
      const go = element("button", other.shown, "piece");
      go.type = "button";
      go.disabled = text === null;
      go.title = text === null ? about.words.no_text : about.words.go_on;
      go.addEventListener("click", () => {
        prompt.value = start + text;
        write();
      });
      named.append(go);
      const bar = element("td", undefined, "bar");
      bar.style.setProperty("--size", `${100 * other.probability / Math.max(shown[0].probability,
        shown[0].runners_up[0].probability)}%`);
      cell.textContent = percent(other.probability);
      cell.className = "number";
      row.append(named, cell, bar);
      return row;
    });
    byId("runners").replaceChildren(...rows);
  };
  const stream = async (which, body, signal) => {
    const place = byId(`text-${which}`), told = byId(`told-${which}`);
    place.replaceChildren(element("span", body.prompt, "given"));
    told.textContent = about.words.writing;
    const answer = await post("/write", { ...body, which }, signal);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      rest += value;
      const lines = rest.split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const said = JSON.parse(line);
        if (said.error) throw new Error(said.error);
        if (said.text) place.append(said.text);
        if (said.done) {
          drawTokens(which, said.done);
          return said.done.seed;
        }
      }
    }
    return null;
  };
  const write = async () => {
    if (writing) writing.abort();
    const own = writing = new AbortController();
    select("text");
    complain("");
    byId("chosen").hidden = true;
    byId("stop").disabled = false;
    const body = { prompt: prompt.value, settings: settings() };
    try {
      const seed = await stream("model", body, own.signal);
      if (byId("beside").checked) {
        const same = seed === null ? {} : { seed };
        await stream("base", { ...body, settings: { ...body.settings, ...same } }, own.signal);
      }
    } catch (error) {
      ["model", "base"].forEach((which) => {
        const told = byId(`told-${which}`);
        if (told.textContent === about.words.writing) told.textContent = about.words.stopped;
      });
      if (error.name !== "AbortError") complain(error.message);
    } finally {
      if (writing === own) {
        writing = null;
        byId("stop").disabled = true;
      }
    }
  };

  // The next token.
  const next = async () => {
    const { strategy: name, ...own } = settings();
    delete own.max_new_tokens;
    try {
      const answer = await (await post("/next", { prompt: prompt.value,
        settings: { strategy: name, ...own } })).json();
      complain("");
      const base = answer.other_entropy_bits !== undefined;
      byId("next-about").textContent = `${say("entropy", {
        bits: local(answer.entropy_bits.toFixed(2)) })} ` + answer.kept.map((one) =>
        say("keeps", { setting: one.name, kept: thousands(one.num_after),
          all: thousands(one.num_before) })).join("; ");
      const head = element("tr");
      [about.words.token, about.words.model, "",
        ...(answer.kept.length ? [about.words.after_settings] : []),
        ...(base ? [about.base] : [])].forEach((text) => {
        const cell = element(text ? "th" : "td", text);
        if (text) cell.scope = "col";
        head.append(cell);
      });
      byId("next-head").replaceChildren(head);
      const most = Math.max(...answer.rows.map((row) => row.probability));
      byId("next-rows").replaceChildren(...answer.rows.map((one) => {
        const row = element("tr", undefined, one.cut_by ? "cut" : "");
        const named = element("th", one.piece, "piece"), bar = element("td", undefined, "bar");
        named.scope = "row";
        bar.style.setProperty("--size", `${100 * one.probability / most}%`);
        row.append(named, element("td", percent(one.probability), "number"), bar);
        if (answer.kept.length) {
          row.append(element("td", one.cut_by ? say("cut_by", { setting: one.cut_by }) :
            percent(one.final_probability), "number"));
        }
        if (base) row.append(element("td", percent(one.other_probability), "number"));
        return row;
      }));
    } catch (error) {
      complain(error.message);
    }
  };
  let timer = 0;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(() => { if (shownTab === "next") next(); }, 300);
  };

  // Tabs.
  const tabs = ["text", "next", "explain"];
  const select = (name, focus = false) => {
    shownTab = name;
    complain("");
    for (const one of tabs) {
      const tab = byId(`tab-${one}`);
      tab.setAttribute("aria-selected", one === name);
      tab.tabIndex = one === name ? 0 : -1;
      byId(`panel-${one}`).hidden = one !== name;
      if (focus && one === name) tab.focus();
    }
    if (name === "next") next();
    if (name === "explain") explain();
  };
  const explain = () => {
    byId("explained").src = `/explain?${new URLSearchParams({ prompt: prompt.value,
      lang: byId("lang").value })}`;
  };
  tabs.forEach((name, at) => {
    byId(`tab-${name}`).addEventListener("click", () => select(name));
    byId(`tab-${name}`).addEventListener("keydown", (event) => {
      const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (move) select(tabs[(at + move + tabs.length) % tabs.length], true);
    });
  });
  byId("lang").addEventListener("input", explain);
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    write();
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      write();
    }
  });
  prompt.addEventListener("input", later);
  byId("stop").addEventListener("click", () => writing && writing.abort());
  strategy.addEventListener("input", () => {
    showSettings();
    later();
  });
  byId("beside").addEventListener("input", () => {
    byId("figure-base").hidden = !byId("beside").checked;
  });

  fetch("/about").then((answer) => answer.json()).then((found) => {
    about = found;
    document.title = say("title", { model: about.model });
    byId("title").textContent = about.model;
    byId("about").textContent = (about.base ? `${say("beside_it", about)} ` : "") +
      (about.context ? say("context", { number: thousands(about.context) }) : "");
    byId("name-model").textContent = about.model;
    if (about.base) {
      byId("beside-label").hidden = false;
      byId("beside-name").textContent = say("beside", about);
      byId("name-base").textContent = about.base;
    }
    for (const row of about.strategies) {
      const option = element("option", row.name);
      option.value = row.name;
      option.title = row.description;
      strategy.append(option);
    }
    strategy.value = "nucleus";
    showSettings();
    byId("lang").value = about.lang;
    document.body.dataset.ready = "true";
  }).catch((error) => complain(error.message));
})();
