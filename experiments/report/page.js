// What every page does by itself: copies and saves code at a click, follows a link into what is folded.
"use strict";

for (const block of document.querySelectorAll(".code")) {
  const pre = block.querySelector("pre"), copy = block.querySelector("[data-copy]");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(pre.textContent);
      copy.textContent = "copied";
    } catch {  // A page opened from a file may not write to the clipboard.
      getSelection().selectAllChildren(pre);
      copy.textContent = "selected";
    }
    setTimeout(() => { copy.textContent = "copy"; }, 1500);
  });
  const save = block.querySelector("[data-save]");
  save?.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([pre.textContent], { type: "text/plain" }));
    link.download = save.dataset.save;
    link.click();
    URL.revokeObjectURL(link.href);
  });
}

function unfold() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const details = target && target.querySelector(":scope > details");
  if (details) details.open = true;
}

addEventListener("hashchange", unfold);
unfold();
