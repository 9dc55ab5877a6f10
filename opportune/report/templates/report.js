"use strict";
// Text from data and models reaches the page through textContent alone.
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 50;
const MARKS = { right: "✓", wrong: "✗", unparsed: "?", failed: "!" };
const field = (id) => document.getElementById(id);

// A prompt is [pieces shared with the prompt before it, piece, piece ...]; see opportune/report/transcript.py.
const prompts = [];
for (const [shared, ...rest] of data.prompts) {
  prompts.push((prompts.length ? prompts[prompts.length - 1].slice(0, shared) : []).concat(rest));
}
const promptText = (number) => prompts[number].map((piece) => data.pieces[piece]).join("");

function element(tag, name, text, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== null && text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

// How it went: right, wrong, unparsed or failed; null where the arm has not been asked.
function verdict(asked) {
  if (!asked) return null;
  if (asked.status !== "ok") return asked.status;
  return asked.score >= 0.5 ? "right" : "wrong";
}

function given(asked) {
  if (asked.status === "failed") return "failed";
  return asked.status === "unparsed" ? "no answer found in: " + (asked.raw || "(empty)") : asked.answer;
}

for (const example of data.examples) {
  example.verdicts = example.asked.map(verdict);
  example.disagree = new Set(example.asked.filter(Boolean).map(given)).size > 1;
  example.text = [example.id, example.input, example.target, ...example.asked.filter(Boolean).map(given)]
    .join("\n").toLowerCase();
}

function fill(select, names) {
  names.forEach((name, index) => {
    const option = element("option", "", name);
    option.value = index;
    select.append(option);
  });
}

function scoresTable(labels, raw, final) {
  const shown = final || raw;
  const order = labels.map((_, index) => index).sort((a, b) => (shown[b] ?? -Infinity) - (shown[a] ?? -Infinity));
  const top = shown[order[0]] ?? 0;
  const header = element("tr", "", null, element("th", "", "choice"));
  if (raw) header.append(element("th", "", "log-probability"));
  if (final) header.append(element("th", "", raw ? "score" : "log-probability"));
  const body = element("tbody");
  order.forEach((index, rank) => {
    const row = element("tr", rank === 0 ? "best" : "", null, element("td", "", labels[index]));
    for (const column of [raw, final]) {
      if (column) row.append(element("td", "", column[index] === null ? "−∞" : column[index].toFixed(3).replace("-", "−")));
    }
    const meter = element("meter");
    meter.value = Math.exp((shown[index] ?? -Infinity) - top);
    meter.setAttribute("aria-hidden", "true");
    row.append(element("td", "", null, meter));
    body.append(row);
  });
  return element("div", "scroll", null, element("table", "choices", null, element("thead", "", null, header), body));
}

function callNotes(call) {
  const notes = [`${call.in.toLocaleString("en")} tokens in, ${call.out.toLocaleString("en")} out`];
  if (call.dropped) notes.push(`${call.dropped} shots dropped to fit the context`);
  if (call.cut) notes.push(`${call.cut} tokens cut from the middle of the input`);
  if (call.error) notes.push(`failed: ${call.error}`);
  return notes.join(" · ");
}

function callParts(call, number, calls, asked) {
  const several = calls.length > 1 ? ` ${number + 1} of ${calls.length}` : "";
  const parts = [element("h4", "", `Asked${several}`), element("pre", "", promptText(call.prompt))];
  for (const text of call.texts || []) parts.push(element("h4", "", "Answered"), element("pre", "", text));
  if (call.scores) {
    const labels = data.choices[call.choices];
    const same = number === 0 && asked.labels === call.choices;
    parts.push(scoresTable(labels, call.scores, same ? asked.scores : null));
  }
  parts.push(element("p", "small muted", callNotes(call)));
  return parts;
}

function evidence(asked) {
  const parts = asked.calls.flatMap((call, number, calls) => callParts(call, number, calls, asked));
  const shown = asked.calls.length && asked.calls[0].choices === asked.labels;
  if (asked.scores && !shown) parts.push(scoresTable(data.choices[asked.labels], null, asked.scores));
  if (!asked.calls.length) parts.unshift(element("p", "small muted", "No language model was asked."));
  return parts;
}

function armRow(asked, index, chosen) {
  const went = verdict(asked);
  const partial = asked.score > 0 && asked.score < 1 ? ` (${asked.score.toFixed(2)})` : "";
  const mark = element("span", "", MARKS[went]);
  mark.setAttribute("role", "img");
  mark.setAttribute("aria-label", went);
  const summary = element("summary", "", null, mark, element("code", "", data.arms[index]),
    element("span", "given", given(asked) + partial));
  const details = element("details", `arm ${went}${chosen ? " chosen" : ""}`, null, summary);
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(element("div", "", null, ...evidence(asked)));
  });
  return details;
}

function card(example, arm) {
  const header = element("header", "", null, element("span", "", example.id), element("span", "", "expected "));
  header.lastChild.append(element("b", "", example.target));
  const made = element("article", "example", null, header, element("p", "input", example.input));
  example.asked.forEach((asked, index) => {
    if (asked) made.append(armRow(asked, index, index === arm));
  });
  return made;
}

let matching = [];
let shown = 0;

function showMore() {
  const arm = field("arm").value === "" ? null : Number(field("arm").value);
  const next = matching.slice(shown, shown + PAGE);
  field("examples").append(...next.map((example) => card(example, arm)));
  shown += next.length;
  const left = matching.length - shown;
  field("more").hidden = left === 0;
  field("more").textContent = `Show ${Math.min(PAGE, left)} more of ${left}`;
}

function update() {
  const arm = field("arm").value === "" ? null : Number(field("arm").value);
  const wanted = field("verdict").value;
  const label = field("label").value === "" ? null : targets[Number(field("label").value)];
  const disagree = field("agreement").value;
  const search = field("search").value.trim().toLowerCase();
  matching = data.examples.filter((example) => {
    const verdicts = arm === null ? example.verdicts : [example.verdicts[arm]];
    return (wanted === "" ? arm === null || verdicts[0] !== null : verdicts.includes(wanted))
      && (label === null || example.target === label)
      && (disagree === "" || example.disagree === (disagree === "yes"))
      && example.text.includes(search);
  });
  field("count").textContent = `${matching.length} of ${data.examples.length} test examples`;
  field("examples").replaceChildren();
  shown = 0;
  showMore();
}

const targets = [...new Set(data.examples.map((example) => example.target))].sort();
fill(field("arm"), data.arms);
if (targets.length <= 200) fill(field("label"), targets);
else field("label").parentElement.hidden = true;
for (const id of ["arm", "verdict", "label", "agreement"]) field(id).addEventListener("change", update);
field("search").addEventListener("input", update);
field("more").addEventListener("click", showMore);
update();
