"use strict";
(() => {
  // The numbers of a token are those of its row in the table below its text.
  const tip = document.getElementById("tip");
  const element = (tag, text) => {
    const made = document.createElement(tag);
    made.textContent = text;
    return made;
  };
  // Scrolling brings other tokens under a mouse that rests: only one that moves points at them.
  let rests = "";
  const moved = (event) => {
    const before = rests;
    rests = `${event.screenX} ${event.screenY}`;
    return event.pointerType === "mouse" && before !== rests;
  };
  document.addEventListener("pointerdown", moved, { capture: true });
  let now = null;
  const place = () => {
    const at = now.getClientRects()[0] || now.getBoundingClientRect();
    const size = tip.getBoundingClientRect(), gap = 8;
    const left = Math.min(at.left, innerWidth - size.width - gap);
    const below = at.bottom + gap, above = at.top - gap - size.height;
    tip.style.left = `${Math.max(gap, left)}px`;
    tip.style.top = `${below + size.height > innerHeight && above > 0 ? above : below}px`;
  };
  const hide = () => {
    if (!now) return;
    now.classList.remove("now");
    now.removeAttribute("aria-describedby");
    now = null;
    tip.hidden = true;
  };
  document.querySelectorAll("[data-table]").forEach((text) => {
    const table = document.getElementById(text.dataset.table);
    const heads = Array.from(table.tHead.rows[0].cells, (cell) => cell.textContent);
    const rows = table.tBodies[0].rows, pieces = [...text.children], first = new Map();
    let count = 0;
    for (const piece of pieces) {
      first.set(piece, count);
      count += +(piece.dataset.n || 1);
    }
    const show = (piece) => {
      if (piece === now) return;
      hide();
      now = piece;
      const parts = [];
      for (let i = 0; i < +(piece.dataset.n || 1); i++) {
        const cells = [...rows[first.get(piece) + i].cells], list = document.createElement("dl");
        const name = element("bdi", cells[1].textContent);
        name.className = "piece";
        name.lang = text.lang;
        cells.slice(2).forEach((cell, n) => {
          if (!cell.textContent) return;
          const value = element("dd", cell.textContent);
          value.lang = cell.lang;
          list.append(element("dt", heads[n + 2]), value);
        });
        parts.push(name, list);
      }
      tip.replaceChildren(...parts);
      tip.hidden = false;
      piece.classList.add("now");
      piece.setAttribute("aria-describedby", "tip");
      place();
    };
    const pieceOf = (event) => event.target.closest("[data-table] > span");
    let tabbed = pieces[0];
    if (tabbed) tabbed.tabIndex = 0;
    const go = (piece) => {
      tabbed.tabIndex = -1;
      tabbed = piece;
      tabbed.tabIndex = 0;
      tabbed.focus();
    };
    text.addEventListener("pointerover", (event) => {
      const piece = pieceOf(event);
      if (moved(event) && piece) show(piece);
    });
    text.addEventListener("pointerleave", (event) => {
      if (moved(event) && !tip.contains(event.relatedTarget)) hide();
    });
    text.addEventListener("click", (event) => {
      const piece = pieceOf(event);
      if (!piece || String(getSelection())) return;
      go(piece);
      show(piece);
    });
    text.addEventListener("focusin", (event) => {
      const piece = pieceOf(event);
      if (piece) show(piece);
    });
    text.addEventListener("focusout", hide);
    text.addEventListener("keydown", (event) => {
      const forward = getComputedStyle(text).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
      const at = pieces.indexOf(tabbed);
      const to = { ArrowLeft: -1, ArrowRight: 1 }[event.key] * (forward === "ArrowRight" ? 1 : -1);
      const goal = event.key === "Home" ? pieces[0] : event.key === "End" ? pieces.at(-1) :
        pieces[at + to];
      if (!goal || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      go(goal);
    });
  });
  tip.addEventListener("pointerleave", (event) => moved(event) && hide());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-table], #tip")) hide();
  });
  addEventListener("scroll", () => now && place(), { capture: true, passive: true });
  addEventListener("resize", () => now && place());
})();
