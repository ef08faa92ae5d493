"use strict";

const element = (name) => document.getElementById(name);

function make(kind, text, name) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

function show(answer) {
  element("label").textContent = answer.label;
  element("probability").textContent = `${(100 * answer.probability).toFixed(1)} %`;
  element("classes").replaceChildren(
    ...Object.entries(answer.probabilities).flatMap(([label, share]) => {
      const track = make("dd", undefined, "track");
      const bar = make("div", undefined, "share");
      bar.style.width = `${100 * share}%`;
      track.append(bar);
      return [make("dt", label), track, make("dd", `${(100 * share).toFixed(1)} %`, "number")];
    }),
  );
  element("layers").replaceChildren(
    ...Array.from({ length: answer.layers }, (_, place) =>
      make("li", String(place + 1), place < answer.depth ? "run" : ""),
    ),
  );
  const early = answer.depth < answer.layers;
  element("exit").textContent = early
    ? `It exited after layer ${answer.depth} of ${answer.layers} (${answer.exit_reason}).`
    : `It ran through all ${answer.layers} layers (${answer.exit_reason}).`;
  const kept = new Set(answer.kept);
  element("tokens").replaceChildren(
    ...answer.tokens.map((token, place) => {
      const made = make("span", token, kept.has(place) ? "" : "removed");
      made.title = kept.has(place) ? "kept" : "removed";
      return made;
    }),
  );
  element("kept").textContent = `${kept.size} of ${answer.tokens.length} tokens were kept at the exit.`;
}

async function classify(event) {
  event.preventDefault();
  const button = event.submitter ?? document.querySelector("button");
  const [text, second] = [element("text").value, element("second").value];
  button.disabled = true;
  let problem = "";
  try {
    const response = await fetch("/classify", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ texts: [second ? [text, second] : text], explain: true }),
    });
    const content = await response.json();
    if (response.ok) show(content.answers[0]);
    else problem = content.error;
  } catch (error) {
    problem = `The server does not answer (${error.message}).`;
  }
  element("error").textContent = problem;
  element("error").hidden = !problem;
  element("result").hidden = Boolean(problem);
  button.disabled = false;
}

element("form").addEventListener("submit", classify);

// /?text=... fills the box and asks at once, so that a result can be linked
const given = new URLSearchParams(location.search).get("text");
if (given) {
  element("text").value = given;
  element("form").requestSubmit();
}
