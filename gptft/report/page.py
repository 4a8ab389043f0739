"""The frame of report.html: one file that loads nothing.

In: a title and a body of HTML. Out: a page with its style in it, light or dark as the reader's
system is, whose Content-Security-Policy keeps it from loading or running anything. Must not import
torch or transformers.
"""

from html import escape


def page(title: str, body: str) -> str:
    """A whole HTML document.

    Args:
        title: plain text.
        body: HTML.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


_STYLE = """\
:root {
  --paper: #fcfcfa; --card: #ffffff; --ink: #1c1d21; --soft: #5b5f68; --rule: #dfe0e4;
  --train: #1d5fc2; --validation: #b4500a; --prompt: #fff0bf; --warn: #fdf0e4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15161a; --card: #1c1e23; --ink: #e7e8ec; --soft: #a2a6b0; --rule: #34373f;
    --train: #82b1ff; --validation: #f5a55c; --prompt: #4b3f16; --warn: #35271a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
}
main { max-width: 72rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 3rem 0 .75rem; }
h3 { font-size: 1rem; margin: 1.75rem 0 .5rem; color: var(--soft); font-weight: 600; }
p { margin: .5rem 0; max-width: 46rem; }
.lead { font-size: 1.15rem; overflow-wrap: anywhere; }
.note { color: var(--soft); font-size: .925rem; }
ul { margin: .5rem 0; padding-left: 1.2rem; max-width: 46rem; }
.samples + .samples { margin-top: 2rem; }
.warn { background: var(--warn); border-radius: .5rem; padding: .6rem .9rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .75rem 0; }
th, td { padding: .4rem 1.5rem .4rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; }
thead th { color: var(--soft); font-weight: 400; font-size: .875rem; }
tbody tr { border-top: 1px solid var(--rule); }
.number { text-align: right; white-space: nowrap; }
th.number:last-child, td.number:last-child { padding-right: 0; }
tr.sum { border-top: 2px solid var(--soft); font-weight: 600; }
tbody th[colspan] { padding-top: 1.25rem; color: var(--soft); font-weight: 400; }
.settings { width: 100%; table-layout: fixed; font-size: .9rem; }
.settings th { width: 45%; font-weight: 400; color: var(--soft); overflow-wrap: anywhere; }
.settings td { overflow-wrap: anywhere; padding-right: 0; }
details { margin-top: 3rem; border-top: 1px solid var(--rule); padding-top: 1rem; }
summary { cursor: pointer; font-weight: 600; font-size: 1.25rem; }
.chart { margin: .5rem 0 1rem; }
.keys { margin: 0 0 .9rem; color: var(--soft); font-size: .875rem; }
.key { margin-right: 1.5rem; white-space: nowrap; }
.key::before {
  content: ""; display: inline-block; width: 1.4rem; margin-right: .5rem; vertical-align: middle;
  border-top: 3px solid var(--train); border-radius: 2px;
}
.key.validation::before { border-top: 3px dashed var(--validation); }
.plot { position: relative; height: 19rem; margin: 0 1.25rem 1.75rem 4rem; }
.small .plot { height: 8rem; }
.plot svg { display: block; width: 100%; height: 100%; overflow: visible; }
.plot path { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.grid { stroke: var(--rule); stroke-width: 1; }
.line { stroke-width: 2; stroke: var(--train); stroke-linecap: round; }
.line.validation { stroke: var(--validation); stroke-dasharray: 6 5; }
.mark { stroke: var(--train); stroke-width: 5; stroke-linecap: round; pointer-events: stroke; }
.mark.validation { stroke: var(--validation); stroke-width: 8; }
.mark:hover { stroke-width: 13; }
.plot span {
  position: absolute; color: var(--soft); font-size: .8rem; line-height: 1; white-space: nowrap;
  font-variant-numeric: tabular-nums;
}
.plot .y { right: 100%; padding-right: .6rem; transform: translateY(-50%); }
.plot .x { top: 100%; padding-top: .6rem; transform: translateX(-50%); }
.axis { margin: 0 1.25rem 0 4rem; max-width: none; text-align: center; color: var(--soft);
  font-size: .8rem; line-height: 1; }
.samples {
  display: grid; gap: .75rem; margin: 1rem 0 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 14.5rem), 1fr));
}
.sample { background: var(--card); border: 1px solid var(--rule); border-radius: .5rem;
  padding: .7rem .9rem; margin: 0; min-width: 0; }
.sample figcaption { color: var(--soft); font-size: .875rem; margin-bottom: .35rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 24rem; overflow-y: auto;
  margin: 0; font: inherit; font-size: .95rem; }
mark { background: var(--prompt); color: inherit; border-radius: .2rem; padding: .05rem 0; }
@media (max-width: 40rem) {
  main { padding: 1.5rem 1rem 3rem; }
  h1 { font-size: 1.6rem; }
  h2 { margin-top: 2.25rem; }
  .plot { height: 14rem; margin-left: 3.25rem; margin-right: .75rem; }
  .axis { margin-left: 3.25rem; margin-right: .75rem; }
  th, td { padding-right: .75rem; }
  table { font-size: .925rem; }
  .change { white-space: normal; }
}
@media print { .text { max-height: none; } .sample { break-inside: avoid; } }
"""
