"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const words = data.words, tokens = data.tokens;
  const byId = (id) => document.getElementById(id);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const floats = (text) => new Float32Array(bytes(text).buffer);
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const parts = (text, values) => text.split(/\{(\w+)\}/).map((one, i) => i % 2 ? values[one] : one);
  const element = (tag, text, className) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  // A token: its text, its id, what tells it apart from one that looks like it, whether it is a mark.
  const spelled = (made, [text, , code]) => {
    made.append(text);
    if (code) made.append(element("sub", code));
    return made;
  };
  const box = (token) => {
    const made = spelled(element("bdi", undefined, "piece boxed" + (token[3] ? " punct" : "")), token);
    made.title = `id ${token[1]}` + (token[2] ? `: ${token[2]}` : "");
    return made;
  };
  const plain = ([text, , code]) => code ? `${text} (${code})` : text;
  const headed = (token) => {  // the head of a row
    const made = element("th");
    made.scope = "row";
    made.append(box(token));
    return made;
  };
  // The last token, of which the page speaks, is on the right.
  document.querySelectorAll("[data-end]").forEach((one) => { one.scrollLeft = one.scrollWidth; });
  // A decimal comma and a space between thousands, where the page is Russian.
  const local = (text) => data.lang === "ru" ?
    text.replace(/[.,]/g, (sign) => sign === "." ? "," : "\u202f") : text;
  const shown = (value, digits = 2) => local(value.toFixed(digits).replace("-", "\u2212"));
  const thousands = (value) => local(value.toLocaleString("en"));
  const percent = (p) => p === 1 ? "100%" : local(p > 0.9995 ? ">99.9%" : p < 0.0001 ? "<0.01%" :
    `${(100 * p).toFixed(p < 0.09995 ? 2 : 1)}%`);

  // The colours of the page, so that pictures follow light and dark.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const painted = [];
  const paint = (canvas, size, value) => {
    const draw = () => {
      canvas.width = canvas.height = size;
      const context = canvas.getContext("2d"), image = context.createImageData(size, size);
      const [r, g, b] = dark.matches ? [130, 177, 255] : [29, 95, 194];
      for (let i = 0; i < size * size; i++) {
        image.data.set([r, g, b, Math.round(255 * value(Math.floor(i / size), i % size))], 4 * i);
      }
      context.putImageData(image, 0, 0);
    };
    painted.push(draw);
    draw();
  };
  dark.addEventListener("change", () => painted.forEach((draw) => draw()));

  // 3: likeness of positions, and the sinusoids of the paper.
  const likeness = byId("likeness"), sines = byId("sines");
  if (likeness && data.likeness) {
    const values = bytes(data.likeness.bytes), size = data.likeness.size;
    paint(likeness, size, (row, column) => values[row * size + column] / 255);
  }
  if (sines) {
    paint(sines, 64, (row, column) => {
      const angle = row / 10000 ** (2 * Math.floor(column / 2) / 64);
      return (1 + (column % 2 ? Math.cos(angle) : Math.sin(angle))) / 2;
    });
  }

  // 4: one block.
  const opened = data.opened;
  if (opened) {
    const [heads, length, width] = opened.shape;
    const query = floats(opened.query), key = floats(opened.key), weights = floats(opened.weights);
    const chosen = { head: opened.head, at: opened.at, to: opened.looksAt };
    const vector = (all, head, at) => all.subarray((head * length + at) * width,
      (head * length + at + 1) * width);
    const score = (head, at, to) => {
      const a = vector(query, head, at), b = vector(key, head, to);
      let sum = 0;
      for (let i = 0; i < width; i++) sum += a[i] * b[i];
      return sum;
    };
    const option = (select, count, name, value) => {
      for (let i = 0; i < count; i++) {
        const made = element("option", name(i));
        made.value = i;
        select.append(made);
      }
      select.value = value;
    };
    const [headOf, asks, looksAt] = ["opened-head", "opened-asks", "opened-looks"].map(byId);
    option(headOf, heads, (i) => i + 1, chosen.head);
    option(asks, length, (i) => `${i + 1}: ${plain(opened.tokens[i])}`, chosen.at);
    option(looksAt, length, (i) => `${i + 1}: ${plain(opened.tokens[i])}`, chosen.to);
    const strip = (name, values, most) => {
      const row = element("div", undefined, "strip");
      row.append(element("span", name, "strip-name"));
      const cells = element("span", undefined, "strip-cells");
      values.forEach((value, i) => {
        const cell = element("i");
        cell.style.setProperty("--size", `${Math.min(100, 100 * Math.abs(value) / most)}%`);
        cell.className = value < 0 ? "minus" : "plus";
        cell.title = `${i + 1}: ${shown(value, 3)}`;
        cells.append(cell);
      });
      row.append(cells);
      return row;
    };
    const update = () => {
      chosen.head = +headOf.value;
      chosen.at = +asks.value;
      [...looksAt.options].forEach((one) => { one.disabled = +one.value > chosen.at; });
      if (+looksAt.value > chosen.at) looksAt.value = chosen.at;
      chosen.to = +looksAt.value;
      const { head, at, to } = chosen;
      const a = vector(query, head, at), b = vector(key, head, to);
      const products = Array.from(a, (value, i) => value * b[i]);
      const most = Math.max(...a.map(Math.abs), ...b.map(Math.abs));
      byId("opened-vectors").replaceChildren(
        strip(words.query, Array.from(a), most), strip(words.key, Array.from(b), most),
        strip(words.product, products, Math.max(...products.map(Math.abs))));
      const dot = score(head, at, to), scaled = dot * opened.scaling;
      byId("opened-sum").textContent =
        `${words.sum} ${shown(dot)} \u00d7 ${local(opened.scaling.toPrecision(3))} = ` +
        `${shown(scaled)} (${words.score})`;
      const body = byId("opened-row"), rows = [];
      let total = 0;
      for (let i = 0; i <= at; i++) {
        const share = weights[(head * length + at) * length + i];
        total += share;
        const row = element("tr", undefined, i === to ? "chosen" : "");
        const named = headed(opened.tokens[i]);
        const bar = element("td", undefined, "bar");
        bar.style.setProperty("--size", `${100 * share}%`);
        row.append(named, element("td", shown(score(head, at, i) * opened.scaling), "number"),
          element("td", shown(share, 3), "number"), bar);
        rows.push(row);
      }
      const last = element("tr", undefined, "sum");
      const named = element("th", words.sum);
      named.scope = "row";
      last.append(named, element("td"), element("td", shown(total, 3), "number"), element("td"));
      body.replaceChildren(...rows, last);
      const fetched = byId("opened-fetched");
      if (fetched) fetched.hidden = at !== length - 1;  // it is told of the last token alone
      if (fetched && opened.fetched[head]) {
        fetched.replaceChildren(
          `${fill(words.fetched, { head: head + 1 })}: `,
          ...opened.fetched[head].flatMap(([token, by], i) =>
            [i ? ", " : "", box(token), ` +${shown(by)}`]));
      }
    };
    const lookMost = () => {  // at what the token takes most of
      const start = (+headOf.value * length + +asks.value) * length;
      const row = weights.subarray(start, start + length);
      looksAt.value = row.indexOf(Math.max(...row));
      update();
    };
    [headOf, asks].forEach((one) => one.addEventListener("input", lookMost));
    looksAt.addEventListener("input", update);
    update();
  }

  // 5: all heads.
  const grid = byId("head-grid");
  if (grid && data.attentions) {
    const [layers, heads, length] = data.attentions.shape;
    const values = bytes(data.attentions.bytes), each = length * (length + 1) / 2;
    const weight = (layer, head, row, column) => column > row ? 0 :
      values[(layer * heads + head) * each + row * (row + 1) / 2 + column] / 255;
    let large = null, at = length - 1, to = null;  // the row and the column that are told of
    const picture = byId("large-picture"), frame = byId("large");
    const labels = (id) => tokens.map((token, i) => {
      const label = spelled(element("bdi", undefined, token[3] ? "punct" : ""), token);
      label.title = `${i + 1}: ${plain(token)}`;
      byId(id).append(label);
      return label;
    });
    const rows = labels("large-rows"), columns = labels("large-columns");
    picture.parentNode.style.setProperty("--tokens", length);
    picture.parentNode.classList.toggle("many", length > 24);
    const tell = () => {
      const { layer, head } = large, looked = tokens.map((_, i) => weight(layer, head, at, i));
      const column = to === null ? looked.indexOf(Math.max(...looked)) : to;
      rows.forEach((label, i) => label.classList.toggle("now", i === at));
      columns.forEach((label, i) => label.classList.toggle("now", i === column));
      const said = column > at ? words.cannot_look : to === null ? words.looks_most : words.looks;
      byId("large-told").replaceChildren(...parts(said, { asks: box(tokens[at]), number: at + 1,
        looks: box(tokens[column]), other: column + 1, share: shown(looked[column]) }));
    };
    const reveal = (column) => {  // in its frame, beside the labels that stay
      const [box, label, beside] = [frame, columns[column], byId("large-rows")].map((one) =>
        one.getBoundingClientRect());
      const start = box.left + beside.width;
      if (label.left < start || label.right > box.right) {
        frame.scrollLeft += (label.left + label.right - start - box.right) / 2;
      }
    };
    const show = () => {
      const { layer, head, name } = large;
      byId("large-name").textContent =
        `${words.layer} ${layer + 1}, ${words.head} ${head + 1}: ${name}`;
      const chips = tokens.map((token, i) => {
        const chip = element("button", undefined, "chip" + (i === at ? " asking" : ""));
        const share = weight(layer, head, at, i);
        chip.type = "button";
        chip.style.setProperty("--size", `${100 * share}%`);
        chip.append(spelled(element("bdi", undefined, token[3] ? "punct" : ""), token),
          element("small", i > at ? "" : shown(share)));
        chip.setAttribute("aria-pressed", i === at);
        chip.addEventListener("click", () => {
          [at, to] = [i, null];
          show();
          reveal(at);
          byId("large-row").children[i].focus();
        });
        return chip;
      });
      byId("large-row").replaceChildren(...chips);
      picture.setAttribute("aria-label", byId("large-name").textContent);
      paint(picture, length, (row, column) => weight(layer, head, row, column));
      tell();
    };
    const point = (row, column) => {
      const last = length - 1, isOther = row !== at;
      [at, to] = [row, column].map((one) => Math.min(Math.max(one, 0), last));
      if (isOther) show();
      else tell();
    };
    picture.addEventListener("pointermove", (event) => {
      const box = picture.getBoundingClientRect();
      point(Math.floor((event.clientY - box.top) / box.height * length),
        Math.floor((event.clientX - box.left) / box.width * length));
    });
    rows.forEach((label, i) => label.addEventListener("click", () => {
      to = null;
      point(i, rows.indexOf(label));
    }));
    frame.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      const by = step[event.key];
      if (!by || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      point(at + by[0], (to === null ? at : to) + by[1]);
      reveal(to);
    });
    const buttons = data.heads.map((one) => {
      const button = element("button", undefined, "head");
      button.type = "button";
      const canvas = element("canvas");
      canvas.setAttribute("aria-hidden", "true");
      paint(canvas, length, (row, column) => weight(one.layer, one.head, row, column));
      button.append(canvas);
      const label = `${words.layer} ${one.layer + 1}, ${words.head} ${one.head + 1}: ${one.name}`;
      button.setAttribute("aria-label", label);
      button.title = label;
      button.addEventListener("click", () => {
        buttons.forEach((other) => other.setAttribute("aria-pressed", other === button));
        large = one;
        show();
        reveal(at);
      });
      return button;
    });
    const numbers = element("div", undefined, "head-row");
    const corner = element("span", words.layer_axis, "head-layer axes");
    corner.append(element("br"), `${words.head} \u2192`);
    numbers.append(corner);
    for (let head = 0; head < heads; head++) numbers.append(element("span", head + 1, "head-number"));
    grid.append(numbers);
    for (let layer = 0; layer < layers; layer++) {
      const row = element("div", undefined, "head-row");
      row.append(element("span", `${layer + 1}`, "head-layer"),
        ...buttons.filter((_, i) => data.heads[i].layer === layer));
      grid.append(row);
    }
    const first = data.heads.findIndex((one) => opened && one.layer === opened.layer &&
      one.head === opened.head);
    buttons[Math.max(first, 0)].click();
  }

  // 8: the choice. What is cut is cut in the order of the sliders, as `gptft predict` does.
  const logits = floats(data.logits), sliders = ["temperature", "top-k", "top-p", "min-p"].map(byId);
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const exps = Float64Array.from(logits, (value) => Math.exp(value - logits[0]));
  const ownTotal = sum(exps), own = (i) => exps[i] / ownTotal;  // as the model has it
  const keepers = {  // of weights, largest first: how many are kept
    "top-k": (weights, k) => {
      const topK = k === 0 ? weights.length : Math.min(k, weights.length);
      let end = topK;  // ties with the last are kept, as top_k keeps them
      while (topK < weights.length && end < weights.length && logits[end] === logits[topK - 1]) end++;
      return end;
    },
    "top-p": (weights, p) => {
      if (p >= 1) return weights.length;
      const all = sum(weights);
      let before = 0, count = 0;
      while (count < weights.length && (count === 0 || before / all < p)) before += weights[count++];
      return count;
    },
    "min-p": (weights, least) => {
      let count = 0;
      while (count < weights.length && weights[count] >= least * weights[0]) count++;
      return count;
    },
  };
  const choose = () => {
    const temperature = +sliders[0].value;
    const scaled = Float64Array.from(logits, (value) => value / temperature);
    const all = scaled.map((value) => Math.exp(value - scaled[0])), allTotal = sum(all);
    const told = { temperature: temperature === 1 ? words.temperature_off :
      fill(words.temperature_told, { before: percent(own(0)), after: percent(1 / allTotal) }) };
    const cutBy = [];  // from which token on, and the slider that cut it
    let weights = all;
    for (const { id, value } of sliders.slice(1)) {
      const count = keepers[id](weights, +value), left = weights.subarray(0, count);
      const isOff = +value === (id === "top-p" ? 1 : 0);
      const mass = sum(left) / sum(weights);
      const said = { kept: thousands(count), all: thousands(weights.length), mass: percent(mass) };
      told[id] = isOff ? words.cut_off : fill(count === weights.length ? words.cuts_nothing :
        1 - mass < 0.001 ? words.cuts_hardly : words.cuts, said);
      if (count < weights.length) cutBy.unshift([count, id]);
      weights = left;
    }
    const total = sum(weights), kept = weights.length, mass = kept < all.length ? total / allTotal : 1;
    let bits = 0;
    for (const value of weights) bits -= value ? value / total * Math.log2(value / total) : 0;
    byId("kept").textContent = fill(words.kept, { kept: thousands(kept),
      all: thousands(logits.length), mass: percent(mass), bits: shown(bits) });
    byId("mass-kept").style.setProperty("--size", `${100 * mass}%`);
    const most = Math.max(own(0), weights[0] / total), names = data.next;
    const rows = names.map((token, i) => {
      const row = element("tr", undefined, i < kept ? "" : "cut");
      const named = headed(token), chance = i < kept ? weights[i] / total : 0;
      const bar = element("td", undefined, "bar");
      bar.style.setProperty("--size", `${100 * chance / most}%`);
      bar.style.setProperty("--own", `${100 * own(i) / most}%`);
      // The first of the sliders that cut it.
      const by = cutBy.findLast(([count]) => i >= count);
      row.append(named, element("td", percent(own(i)), "number"), element("td", i < kept ?
        percent(chance) : fill(words.cut_by, { name: by[1] }), "number"), bar);
      row.dataset.probability = chance;
      return row;
    });
    const rest = logits.length - names.length;
    if (rest > 0) {
      const row = element("tr", undefined, "rest"), cell = element("td", fill(words.rest, {
        number: thousands(rest), kept: thousands(Math.max(kept - names.length, 0)) }));
      cell.colSpan = 4;
      row.append(cell);
      rows.push(row);
    }
    byId("bars").replaceChildren(...rows);
    sliders.forEach(({ id, value }) => {
      byId(`${id}-value`).textContent = id === "top-k" && +value === 0 ? "\u2014" : local(value);
      byId(`${id}-told`).textContent = told[id];
    });
  };
  sliders.forEach((one) => one.addEventListener("input", choose));
  choose();
})();
