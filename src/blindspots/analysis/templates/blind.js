"use strict";
(() => {
  const at = id => document.getElementById(id);

  // The images and the answer key are hidden from a glance into this file; the stream is mulberry32, as in blind.py.
  const reveal = () => {
    const store = at("pairs"), bytes = Uint8Array.from(atob(store.textContent), letter => letter.charCodeAt(0));
    let state = Number(store.dataset.key) >>> 0;
    store.remove();
    for (let place = 0; place < bytes.length; place++) {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      bytes[place] ^= (mixed ^ (mixed >>> 14)) & 255;
    }
    return JSON.parse(new TextDecoder().decode(bytes));
  };

  const below = count => {  // a random whole number, without bias
    const most = Math.floor(2 ** 32 / count) * count, drawn = new Uint32Array(1);
    do crypto.getRandomValues(drawn); while (drawn[0] >= most);
    return drawn[0] % count;
  };

  // P(X >= count) of X binomial (of, share), in logarithms; and the share at which a tail is as likely as asked.
  const tail = (count, of, share) => {
    let sum = 0, choose = 0;
    for (let k = 0; k <= of; k++) {
      if (k) choose += Math.log((of - k + 1) / k);
      if (k >= count) sum += Math.exp(choose + k * Math.log(share) + (of - k) * Math.log1p(-share));
    }
    return sum;
  };
  const solve = rises => {
    let low = 0, high = 1;
    for (let step = 0; step < 60; step++) {
      const middle = (low + high) / 2;
      if (rises(middle)) high = middle; else low = middle;
    }
    return (low + high) / 2;
  };
  const interval = (count, of, level) => {
    const each = (1 - level) / 2;
    return [count ? solve(p => tail(count, of, p) > each) : 0,
            count < of ? solve(p => tail(count + 1, of, p) > 1 - each) : 1];
  };

  const study = reveal(), pairs = study.pairs, answers = [];
  for (let last = pairs.length - 1; last > 0; last--) {
    const other = below(last + 1);
    [pairs[last], pairs[other]] = [pairs[other], pairs[last]];
  }
  let left = 0, shown = 0, ready = false;

  const draw = async (button, text) => {
    const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
    const canvas = at(button).querySelector("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    canvas.classList.toggle("small", Math.min(image.width, image.height) < 96);
    canvas.getContext("2d").drawImage(image, 0, 0);
  };
  const next = async () => {
    const pair = pairs[answers.length];
    left = below(2);
    at("place").textContent = `Pair ${answers.length + 1} of ${pairs.length}`;
    await Promise.all([draw("left", pair.images[left]), draw("right", pair.images[1 - left])]);
    shown = performance.now();
    ready = true;
  };
  const choose = side => {
    if (!ready || at("trial").hidden) return;
    ready = false;
    const pair = pairs[answers.length], chosen = side === "left" ? left : 1 - left;
    answers.push({
      index: pair.index, side, chose: chosen === pair.attacked ? "attacked" : "original",
      milliseconds: Math.round(performance.now() - shown),
    });
    if (answers.length < pairs.length) next(); else finish();
  };

  let result = null;
  const finish = () => {
    const count = answers.filter(answer => answer.chose === "attacked").length, of = answers.length;
    const [low, high] = interval(count, of, study.level), percent = share => `${(100 * share).toFixed(1)} %`;
    result = { ...study.about, level: study.level, chose_attacked: { count, of, value: count / of, low, high }, answers };
    at("result").textContent = `In ${count} of ${of} pairs you took the changed image for the more real one: ` +
      `${percent(count / of)}, interval ${percent(low)} to ${percent(high)}.`;
    at("trial").hidden = true;
    at("after").hidden = false;
  };

  at("start").addEventListener("click", () => {
    at("before").hidden = true;
    at("trial").hidden = false;
    next();
  });
  for (const side of ["left", "right"]) at(side).addEventListener("click", () => choose(side));
  document.addEventListener("keydown", event => {
    if (event.key === "ArrowLeft" && !event.repeat) choose("left");
    if (event.key === "ArrowRight" && !event.repeat) choose("right");
  });
  at("save").addEventListener("click", () => {
    const file = URL.createObjectURL(new Blob([JSON.stringify(result, null, 1) + "\n"], { type: "application/json" }));
    const link = Object.assign(document.createElement("a"), { href: file, download: "blind-answers.json" });
    link.click();
    URL.revokeObjectURL(file);
  });
})();
