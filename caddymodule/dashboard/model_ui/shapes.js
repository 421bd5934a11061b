// What an answer says. Services answer in many shapes; the page knows those of
// ModelScope, Hugging Face, spaCy, Stanza and the usual hand-written ones.

// read returns {entities, dropped} or {labels: [[label, score], …], best}, or
// null for JSON of another kind. Entities have {type, span, prob, start, end}
// in UTF-16 units of text, as JavaScript counts, and {from, to} in code points.
export function read(json, text) {
	json = unwrap(json);
	const list = json?.output ?? json?.entities ?? json?.ents ?? json;
	if (Array.isArray(list) && !isLabel(list[0])) {
		if (list.some((e) => typeof e === "string" || Array.isArray(e))) return null;
		return place(typeof json.text === "string" ? json.text : text, list);
	}
	return labels(json);
}

const isLabel = (e) => e?.label !== undefined && e.score !== undefined && [e.start, e.word, e.start_char].every((v) => v === undefined);

// unwrap opens the envelopes that services put around an answer.
function unwrap(json, depth = 3) {
	if (!depth) return json;
	if (typeof json === "string") {
		try { return unwrap(JSON.parse(json), depth - 1); } catch { return json; }
	}
	if (Array.isArray(json)) return json.length === 1 && (Array.isArray(json[0]) || json[0]?.output) ? unwrap(json[0], depth - 1) : json;
	for (const key of ["data", "result", "results", "predictions", "Data"]) {
		if (json?.[key] !== undefined && json.output === undefined && json.label === undefined) return unwrap(json[key], depth - 1);
	}
	return json;
}

function labels(json) {
	const pairs = Array.isArray(json) ? json.map((e) => [e?.label, e?.score])
		: Array.isArray(json?.labels) && Array.isArray(json.scores) && json.labels.length === json.scores.length
			? json.labels.map((label, i) => [label, json.scores[i]])
			: json?.label !== undefined ? [[json.label, json.score]] : [];
	if (!pairs.length) return null;
	const sorted = pairs.map(([label, score]) => [String(label), Number(score)]).sort((a, b) => b[1] - a[1]);
	const best = json.label === undefined ? sorted[0] : [String(json.label), Number(json.score ?? sorted[0][1])];
	return {labels: sorted, best};
}

const first = (...values) => values.find((v) => v !== undefined && v !== null);
// Some services quote their numbers.
const integer = (v) => (typeof v === "number" || typeof v === "string" && v !== "") && Number.isInteger(Number(v)) ? Number(v) : undefined;

// place gives each entity its range in text. Most services count code points,
// some UTF-16 units, which differ after an emoji, and some give the last
// character instead of the end: the entity's own words decide. One that
// can't be placed is left out and counted: a wrong highlight is worse than none.
function place(text, list) {
	const at = [0]; // by code point, its UTF-16 offset
	for (const c of text) at.push(at.at(-1) + c.length);
	const index = new Map(at.map((offset, i) => [offset, i]));
	const entities = [];
	let cursor = 0;
	for (const e of list) {
		const type = first(e?.type, e?.entity_group, e?.entity, e?.label, e?.ne);
		if (!["string", "number"].includes(typeof type)) continue;
		const words = first(e.span, e.word, e.text);
		const start = integer(first(e.start, e.start_char, e.start_offset, e.offset));
		const length = integer(e.length);
		const end = integer(first(e.end, e.end_char, e.end_offset, length === undefined ? undefined : start + length));
		let range;
		if (start !== undefined && end !== undefined) {
			const candidates = [[at[start], at[end]], [start, end], [at[start], at[end + 1]]];
			range = typeof words === "string" ? candidates.find(([a, b]) => index.has(a) && index.has(b) && a < b && same(text.slice(a, b), words)) : candidates[0];
		} else if (typeof words === "string" && words) {
			const found = text.indexOf(words, cursor);
			if (found >= 0) range = [found, cursor = found + words.length];
		}
		if (!range || !(range[0] < range[1])) continue;
		const [a, b] = range;
		const prob = first(e.prob, e.score, e.probability);
		entities.push({
			type: String(type), span: text.slice(a, b), start: a, end: b, from: index.get(a), to: index.get(b),
			prob: prob !== undefined && Number.isFinite(Number(prob)) ? Number(prob) : undefined,
		});
	}
	// Outer before inner, so that nesting follows the order.
	entities.sort((a, b) => a.start - b.start || b.end - a.end);
	return {text, entities, dropped: list.length - entities.length};
}

// Tokenizers lose case and white space and mark the pieces of words.
const same = (a, b) => a === b || bare(a) === bare(b);
const bare = (s) => s.replace(/[\s▁Ġ]|##/gu, "").toLowerCase();

const canonical = {
	PERSON: "PER", NR: "PER", NH: "PER", NAME: "PER", 人名: "PER", 人物: "PER",
	LOCATION: "LOC", GPE: "LOC", NS: "LOC", 地名: "LOC", 地点: "LOC",
	ORGANIZATION: "ORG", COMPANY: "ORG", NT: "ORG", NI: "ORG", 机构: "ORG", 机构名: "ORG", 组织机构: "ORG",
};

// kind chooses the look of a type: PER, LOC, ORG or one of four others.
export function kind(type) {
	const upper = type.toUpperCase().replace(/^[BIES]-/, "");
	const known = canonical[upper] ?? upper;
	if (known === "PER" || known === "LOC" || known === "ORG") return known;
	let hash = 0;
	for (const c of upper) hash = (hash * 31 + c.codePointAt(0)) % 9973;
	return "x" + hash % 4;
}
