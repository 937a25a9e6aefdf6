// Sphinx's scores of search results, except that the changelog and the experiments come after the guides.
var Scorer = {
  score: ([docname, title, anchor, descr, score]) =>
    docname === "changelog" ? score - 100 : docname.startsWith("experiments/") ? score - 10 : score,
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
