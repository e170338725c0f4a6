// What every page does by itself: copies code at a click, follows a link into what is folded.
"use strict";

for (const block of document.querySelectorAll(".code")) {
  const button = block.querySelector("button");
  button.addEventListener("click", async () => {
    const text = block.querySelector("pre").textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      // A page opened from a file may not write to the clipboard: select it instead.
      getSelection().selectAllChildren(block.querySelector("pre"));
      button.textContent = "selected";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
}

function unfold() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const details = target && target.querySelector(":scope > details");
  if (details) details.open = true;
}

addEventListener("hashchange", unfold);
unfold();
