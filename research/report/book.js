// Shows the studies that hold every word and every choice; without this script all are shown.
const form = document.getElementById("find");
const studies = [...document.querySelectorAll("article")].map((article) => ({
  article,
  row: document.querySelector(`tr[data-study="${article.id}"]`),
  text: article.textContent.toLowerCase().replace(/\s+/g, " "),
}));
function find() {
  const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
  // A choice that no study offers is not in the form.
  const choices = ["family", "axis", "cited", "state", "agrees"].map((name) => [name, form.elements[name]?.value]);
  let shown = 0;
  for (const { article, row, text } of studies) {
    const chosen = choices.every(([name, value]) => !value || article.dataset[name].split("|").includes(value));
    const hidden = !chosen || !words.every((word) => text.includes(word));
    article.hidden = row.hidden = hidden;
    shown += !hidden;
  }
  document.getElementById("count").textContent = `${shown} of ${studies.length} studies`;
}
form.addEventListener("input", find);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(find));
form.hidden = false;
find();
