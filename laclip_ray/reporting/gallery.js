"use strict";
for (const gallery of document.querySelectorAll(".gallery")) {
  const filter = gallery.querySelector(".filter");
  const words = filter.querySelector("input");
  const chosen = [...filter.querySelectorAll("select")];
  const shown = filter.querySelector("output");
  const cards = [...gallery.querySelectorAll(".card")].map((element) => ({
    element,
    run: element.dataset.run || "",
    caption: element.querySelector(".caption").textContent.toLowerCase(),
    texts: [...element.querySelectorAll("li[data-set]")].map((item) => ({
      item, set: item.dataset.set, reason: item.dataset.reason, text: item.textContent.toLowerCase(),
    })),
  }));
  const apply = () => {
    const wanted = words.value.trim().toLowerCase();
    const by = Object.fromEntries(chosen.map((each) => [each.name, each.value]));
    let count = 0;
    for (const card of cards) {
      const isCaption = card.caption.includes(wanted);
      let isAny = false;
      for (const each of card.texts) {
        const fits = (!by.set || each.set === by.set) && (!by.reason || each.reason === by.reason);
        each.item.hidden = !fits;
        isAny = isAny || (fits && (isCaption || each.text.includes(wanted)));
      }
      for (const group of card.element.querySelectorAll(".of-set")) {
        group.hidden = !group.querySelector("li:not([hidden])");
      }
      const isFree = !by.set && !by.reason;
      const isShown = (!by.run || card.run === by.run) && (isAny || (isFree && isCaption));
      card.element.hidden = !isShown;
      count += isShown ? 1 : 0;
    }
    shown.textContent = `${count} of ${cards.length} captions`;
  };
  filter.hidden = false;
  filter.addEventListener("input", apply);
  filter.addEventListener("submit", (event) => event.preventDefault());
  filter.querySelector("button").addEventListener("click", () => {
    words.value = "";
    for (const each of chosen) each.value = "";
    apply();
    words.focus();
  });
  apply();
}
