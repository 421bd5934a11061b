// What an answer looks like. Everything from the network enters the page as
// text nodes or attributes set through the DOM, never as mark-up.

// place gives each entity its UTF-16 range in text. Offsets from the API count
// code points; JavaScript counts UTF-16 units, which differ after an emoji.
// An entity whose offsets don't lead to its own words is left out and counted:
// a wrong highlight is worse than none.
export function place(text, entities) {
	const at = [0];
	for (const c of text) at.push(at.at(-1) + c.length);
	const placed = [];
	for (const e of entities) {
		if (!Number.isInteger(e?.start) || !Number.isInteger(e.end)) continue;
		const start = at[e.start], end = at[e.end];
		const words = start < end ? text.slice(start, end) : "";
		if (!words || (typeof e.span === "string" && e.span !== words)) continue;
		placed.push({type: String(e.type), span: words, prob: e.prob, start, end, from: e.start, to: e.end});
	}
	// Outer before inner, so that nesting follows the order.
	placed.sort((a, b) => a.start - b.start || b.end - a.end);
	return {placed, dropped: entities.length - placed.length};
}

const canonical = {
	PERSON: "PER", NR: "PER", NAME: "PER", 人名: "PER",
	LOCATION: "LOC", GPE: "LOC", NS: "LOC", 地名: "LOC",
	ORGANIZATION: "ORG", COMPANY: "ORG", NT: "ORG", 机构: "ORG", 组织机构: "ORG",
};

// kind chooses the look of a type: PER, LOC, ORG or one of four others.
export function kind(type) {
	const upper = type.toUpperCase();
	const known = canonical[upper] ?? upper;
	if (known === "PER" || known === "LOC" || known === "ORG") return known;
	let hash = 0;
	for (const c of upper) hash = (hash * 31 + c.codePointAt(0)) % 9973;
	return "x" + hash % 4;
}

export function element(name, attributes = {}, ...children) {
	const e = document.createElement(name);
	for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
	e.append(...children);
	return e;
}

export const percent = (p) => (100 * p).toFixed(p > 0.9995 || p < 0.0005 ? 0 : 1) + " %";

// highlight returns the text with its entities marked: cut at every boundary,
// so that marks nest properly however the entities overlap.
export function highlight(text, placed) {
	const box = element("p", {class: "marked", dir: "auto", lang: "zh"});
	const cuts = [...new Set([0, text.length, ...placed.flatMap((e) => [e.start, e.end])])].sort((a, b) => a - b);
	for (let i = 0; i + 1 < cuts.length; i++) {
		const [start, end] = [cuts[i], cuts[i + 1]];
		let node = document.createTextNode(text.slice(start, end));
		const over = placed.filter((e) => e.start <= start && end <= e.end);
		for (const e of over.reverse()) {
			const mark = element("mark", {class: "ner ner-" + kind(e.type), "data-type": e.type, title: title(e)}, node);
			if (e.start === start) mark.classList.add("first");
			if (e.end === end) {
				mark.classList.add("last");
				mark.dataset.label = e.type; // drawn by CSS: copied text stays clean
			}
			node = mark;
		}
		box.append(node);
	}
	return box;
}

const title = (e) => e.type + (typeof e.prob === "number" ? " " + percent(e.prob) : "");

// entityView is the whole answer of an NER model: legend, marked text, table.
export function entityView(text, entities, t) {
	const {placed, dropped} = place(text, entities);
	const marked = highlight(text, placed);
	const parts = [legend(placed, marked, t), marked];
	if (!placed.length) parts.push(element("p", {class: "dim"}, t("none")));
	if (dropped) parts.push(element("p", {class: "dim"}, t("unplaced", {n: dropped})));
	if (placed.length) parts.push(table(placed, t));
	return parts;
}

function legend(placed, marked, t) {
	const counts = new Map();
	for (const e of placed) counts.set(e.type, (counts.get(e.type) ?? 0) + 1);
	const box = element("div", {class: "legend"});
	for (const [type, n] of counts) {
		const name = kind(type)[0] === "x" ? "" : " " + t(kind(type));
		const button = element("button", {
			type: "button", class: "ner ner-" + kind(type), "aria-pressed": "true", title: t("toggle", {type}),
		}, `${type}${name} · ${n}`);
		button.addEventListener("click", () => {
			const shown = button.getAttribute("aria-pressed") !== "true";
			button.setAttribute("aria-pressed", shown);
			for (const mark of marked.querySelectorAll("mark")) {
				if (mark.dataset.type === type) mark.classList.toggle("off", !shown);
			}
		});
		box.append(button);
	}
	return box;
}

function table(placed, t) {
	const head = element("tr", {}, ...["entity", "type", "position", "probability"].map((k) => element("th", {scope: "col"}, t(k))));
	const rows = placed.map((e) => element("tr", {},
		element("td", {lang: "zh"}, e.span), element("td", {}, e.type), element("td", {}, `${e.from}–${e.to}`),
		element("td", {}, typeof e.prob === "number" ? percent(e.prob) : "")));
	return element("div", {class: "scroll"}, element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
}

// The bars are coloured by what a label says; the words beside them say it too.
const positive = /^(positive|pos|正面|积极|label_1|1)$/i;
const negative = /^(negative|neg|负面|消极|label_0|0)$/i;
const mood = (label) => positive.test(label) ? "good" : negative.test(label) ? "bad" : "plain";

// labelView is the whole answer of a classifier: the label, then a bar for each.
export function labelView(answer) {
	const labels = Array.isArray(answer.labels) && Array.isArray(answer.scores) && answer.labels.length === answer.scores.length
		? answer.labels.map((label, i) => [String(label), Number(answer.scores[i])])
		: [[String(answer.label), Number(answer.score)]];
	labels.sort((a, b) => b[1] - a[1]);
	const best = String(answer.label ?? labels[0][0]);
	const score = Number(answer.score ?? labels[0][1]);
	const bars = element("div", {class: "bars"});
	for (const [label, value] of labels) {
		const fill = element("div", {class: "fill " + mood(label)});
		fill.style.width = 100 * Math.min(1, Math.max(0, value || 0)) + "%"; // the CSSOM, which the policy allows
		bars.append(element("span", {}, label), element("div", {class: "track", "aria-hidden": "true"}, fill), element("span", {class: "number"}, percent(value)));
	}
	return [element("p", {class: "verdict " + mood(best), "data-label": best}, best + " ", element("span", {class: "number"}, percent(score))), bars];
}
