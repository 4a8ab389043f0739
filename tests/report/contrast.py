"""How well the text of a page can be told from what it stands on, as the browser draws it."""

from tests.browser import Browser

# WCAG 2.1, 1.4.3: of all elements with text of their own the one with the least contrast.
_CONTRAST = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const rgba = (colour) => {
    if (!known.has(colour)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      known.set(colour, [r, g, b, a / 255]);
    }
    return known.get(colour);
  };
  const over = (top, share, below) => below.map((c, i) => top[i] * share + c * (1 - share));
  const ground = (one) => {
    if (!one) return [255, 255, 255];
    const own = rgba(getComputedStyle(one).backgroundColor);
    return own[3] === 1 ? own.slice(0, 3) : over(own, own[3], ground(one.parentElement));
  };
  const opacity = (one) => one ? getComputedStyle(one).opacity * opacity(one.parentElement) : 1;
  const light = (rgb) => rgb.map((c) => c / 255).map(
    (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
  ).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const isText = (node) => node.nodeType === 3 && node.data.trim();
  const hasText = (one) => [...one.childNodes].some(isText);
  const found = [...document.querySelectorAll("body *:not(script, noscript, style, option, title)")]
    .filter((one) => hasText(one) && one.checkVisibility()).map((one) => {
      const below = ground(one), ink = rgba(getComputedStyle(one).color);
      const pair = [light(over(ink, ink[3] * opacity(one), below)), light(below)];
      const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
      return [ratio, `${one.tagName}.${one.className}`, one.textContent.slice(0, 40)];
    });
  return [found.length, ...found.sort((x, y) => x[0] - y[0])[0]];
})()
"""


def check_contrast(browser: Browser) -> None:
    """Every text has a contrast of 4.5 to 1."""
    number, contrast, where, text = browser.run(_CONTRAST)
    assert number > 10
    assert contrast >= 4.5, (where, text, contrast)
