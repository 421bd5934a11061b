// Many texts at once: a file in, a CSV out. Texts go to the same API as a single
// one, in groups where the service takes {"texts": […]}.

import {$, element, number, onTranslate, t} from "./words.js";
import {ask, pause} from "./ask.js";
import {read, kind} from "./shapes.js";
import {highlight, mood, percent} from "./render.js";
import {readTable, textColumn, writeCSV} from "./rows.js";
import {save} from "./export.js";

const groupSize = 32, groupChars = 20_000; // texts, UTF-16 units in one request
const workers = 2;                         // requests at the same time
const tries = 6;                           // of one group, after failures that may pass
const maxBytes = 20 << 20, maxRows = 100_000;
const previewed = 20;                      // results shown on the page

let file = null; // {name, format, encoding, columns, rows}, rows without the header
let run = null;  // the results of file's rows
let message = null;

const say = (key, values) => {
	message = key && {key, values};
	$("batch-problem").textContent = key ? t(key, values) : "";
};

// ---- the file

export async function open(blob) {
	cancel();
	file = run = null;
	say();
	try {
		if (blob.size > maxBytes) throw {key: "b_large", values: {n: maxBytes >> 20}};
		let table;
		const bytes = new Uint8Array(await blob.arrayBuffer());
		try {
			table = readTable(blob.name ?? "", bytes);
		} catch (error) {
			throw {key: "b_json", values: {line: error.message}};
		}
		if (table.rows.length > maxRows + 1) throw {key: "b_rows", values: {n: number(maxRows)}};
		if (!table.rows.length) throw {key: "b_empty"};
		file = {...table, name: blob.name ?? "batch", all: table.rows, fixed: table.columns};
		$("header").checked = table.format === "CSV";
		useHeader();
	} catch (problem) {
		if (!problem.key) throw problem;
		say(problem.key, problem.values);
	}
	show();
}

// useHeader splits the rows by whether the first one names the columns.
function useHeader() {
	const width = file.all.reduce((w, row) => Math.max(w, row.length), 0);
	const names = file.fixed ?? ($("header").checked ? file.all[0] : []);
	file.rows = file.fixed || !$("header").checked ? file.all : file.all.slice(1);
	file.columns = Array.from({length: width}, (_, i) => names[i] || t("column", {n: i + 1}));
	$("column").replaceChildren(...file.columns.map((name, i) => element("option", {value: i}, name)));
	$("column").value = textColumn(file.columns, file.rows);
	run = null;
}

const textOf = (row) => (row[$("column").value] ?? "").trim();

// ---- the run

const isDone = (i) => run.results[i] !== undefined;

async function start(api) {
	if (!file?.rows.length) return;
	if (!run || run.api !== api.href) run = {api: api.href, results: new Array(file.rows.length), done: 0, failed: 0, nodes: new Map(), inGroups: undefined};
	say();
	const controller = run.controller = new AbortController();
	const pending = file.rows.keys().filter((i) => !isDone(i)).toArray().reverse(); // taken from the end
	run.begun = performance.now();
	run.before = run.done;
	run.resumeAt = 0;
	show();
	try {
		await Promise.all(Array.from({length: workers}, () => work(api, pending, controller.signal)));
	} catch (problem) {
		controller.abort(); // the other worker's request too
		if (problem.key) say(problem.key, problem.values);
		else if (!(problem instanceof Cancelled)) throw problem;
	} finally {
		if (run?.controller === controller) run.controller = null;
		show();
	}
}

class Cancelled extends Error {}

export function cancel() {
	run?.controller?.abort();
}

async function work(api, pending, signal) {
	for (let group; (group = take(pending)).length;) {
		await send(api, group, signal);
		show();
	}
}

// take removes the next group from pending: rows without a text need no request.
function take(pending) {
	const group = [];
	let chars = 0;
	while (pending.length && group.length < (run.inGroups === false ? 1 : groupSize)) {
		const i = pending.at(-1), text = textOf(file.rows[i]);
		if (group.length && chars + text.length > groupChars) break;
		pending.pop();
		chars += text.length;
		if (text) group.push(i);
		else settle(i, {empty: true});
	}
	return group;
}

function settle(i, result) {
	run.results[i] = result;
	run.done++;
	if (result.error) run.failed++;
}

// send asks for a group until it is answered or refused. What refuses a group
// may mean one of its texts, so halves are asked; a service that answers only
// single texts is found out in this way too.
async function send(api, group, signal) {
	const texts = group.map((i) => textOf(file.rows[i]));
	const problem = await request(api, texts.length > 1 ? {texts} : {text: texts[0]}, signal, (answer) => {
		const list = texts.length > 1 ? answer.json?.results ?? answer.json : [answer.json];
		if (!Array.isArray(list) || list.length !== texts.length) return false;
		const read_ = list.map((json, n) => read(json, texts[n]));
		if (read_.includes(null)) return false;
		if (texts.length > 1) run.inGroups = true;
		if (answer.node) run.nodes.set(answer.node, (run.nodes.get(answer.node) ?? 0) + texts.length);
		group.forEach((i, n) => settle(i, read_[n]));
		return true;
	});
	if (!problem) {
		if (group.length === 1 && run.inGroups === undefined && run.refused) run.inGroups = false;
		return;
	}
	if (group.length > 1) {
		run.refused = true;
		const half = group.length >> 1;
		await send(api, group.slice(0, half), signal);
		return sendEach(api, group.slice(half), signal);
	}
	// Some refusals are of a text, others of every request.
	if (![400, 413, 422, 500].includes(problem.status)) throw problem;
	settle(group[0], {error: t(problem.key, problem.values) + (problem.detail ? " " + problem.detail : "")});
}

// sendEach is send, but one text at a time where groups have turned out useless.
async function sendEach(api, group, signal) {
	if (run.inGroups !== false) return send(api, group, signal);
	for (const i of group) await send(api, [i], signal);
}

// request returns nothing when accept took the answer, else what is wrong.
async function request(api, body, signal, accept) {
	for (let attempt = 1; ; attempt++) {
		await until(() => run.resumeAt, signal);
		const answer = await ask(api, body, signal);
		if (signal.aborted) throw new Cancelled();
		if (!answer.key) {
			run.waiting = null;
			return accept(answer) ? undefined : {key: "e_json", status: 422};
		}
		if (!answer.again) return answer;
		if (attempt === tries) throw answer;
		// All workers wait, since all ask the same service.
		run.resumeAt = Math.max(run.resumeAt, performance.now() + 1000 * pause(answer, attempt));
		run.waiting = answer;
		show();
	}
}

// until waits for a time that may be put off meanwhile, and ends when cancelled.
async function until(time, signal) {
	for (let left; (left = time() - performance.now()) > 0;) {
		show();
		await new Promise((resolve) => {
			const timer = setTimeout(resolve, Math.min(left, 1000));
			signal.addEventListener("abort", () => {
				clearTimeout(timer);
				resolve();
			}, {once: true});
		});
		if (signal.aborted) throw new Cancelled();
	}
}

// ---- the page

let drawn = 0;

function show() {
	const going = Boolean(run?.controller);
	$("batch-form").hidden = !file;
	$("batch-run").hidden = going;
	$("batch-cancel").hidden = !going;
	$("column").disabled = $("header").disabled = going;
	$("header-field").hidden = Boolean(file?.fixed);
	$("batch-save").disabled = !run?.done;
	$("batch-progress").hidden = !run;
	if (file) $("batch-file").textContent = t("b_file", {name: file.name, n: number(file.rows.length), format: file.format, encoding: file.encoding});
	const rest = run && run.done < file.rows.length;
	$("batch-run").disabled = Boolean(run) && !rest;
	$("batch-run").textContent = run && rest && run.done ? t("b_continue") : t("b_run");
	if (!run) {
		drawn = 0;
		$("batch-results").replaceChildren();
		$("batch-said").textContent = "";
		return;
	}
	$("batch-bar").max = file.rows.length;
	$("batch-bar").value = run.done;
	const seconds = (performance.now() - run.begun) / 1000;
	const rate = (run.done - run.before) / seconds;
	const facts = [t("b_done", {n: number(run.done), all: number(file.rows.length)})];
	if (run.failed) facts.push(t("b_failed", {n: number(run.failed)}));
	if (going && rate > 0) facts.push(t("b_left", {n: number(Math.ceil((file.rows.length - run.done) / rate))}));
	for (const [node, n] of [...run.nodes].sort().slice(0, 8)) facts.push(`${node}: ${number(n)}`);
	$("batch-state").textContent = facts.join(" · ");
	const wait = going ? Math.ceil((run.resumeAt - performance.now()) / 1000) : 0;
	$("batch-wait").textContent = wait > 0 && run.waiting ? t(run.waiting.key, run.waiting.values) + " " + t("waiting", {n: wait}) : "";
	// Said once at the end, not with every group.
	$("batch-said").textContent = going ? "" : facts.slice(0, 2).join(", ");
	preview();
}

// preview shows the first results as they come.
function preview() {
	for (; drawn < previewed && drawn < file.rows.length && isDone(drawn); drawn++) {
		const result = run.results[drawn];
		const shown = result.error ? element("p", {class: "bad"}, result.error)
			: result.labels ? element("p", {}, element("b", {class: mood(result.best[0])}, result.best[0]), ` ${percent(result.best[1])} `, textOf(file.rows[drawn]))
				: result.empty ? element("p", {class: "dim"}, "–") : highlight(result.text, result.entities);
		$("batch-results").append(element("li", {}, shown));
	}
	if (!drawn) $("batch-results").replaceChildren();
}

// table is what is saved: the file's columns, then the answers'.
export function table() {
	const results = Array.from(run.results, (r) => r ?? {});
	const types = [...new Set(results.flatMap((r) => r.entities?.map((e) => e.type) ?? []))]
		.sort((a, b) => kind(a).localeCompare(kind(b)) || a.localeCompare(b));
	const labels = results.some((r) => r.labels);
	const failed = results.some((r) => r.error);
	const entities = results.some((r) => r.entities);
	const head = [...file.columns, ...types, ...(entities ? ["entities"] : []), ...(labels ? ["label", "score"] : []), ...(failed ? ["error"] : [])];
	const rows = results.map((r, i) => [
		...file.columns.map((_, c) => file.rows[i][c] ?? ""),
		...types.map((type) => (r.entities ?? []).filter((e) => e.type === type).map((e) => e.span).join("; ")),
		...(entities ? [r.entities ? JSON.stringify(r.entities.map((e) => ({type: e.type, start: e.from, end: e.to, span: e.span, prob: e.prob}))) : ""] : []),
		...(labels ? r.labels ? r.best : ["", ""] : []),
		...(failed ? [r.error ?? ""] : []),
	]);
	return [head, ...rows];
}

export function setUp(currentAPI) {
	$("file").addEventListener("change", () => $("file").files[0] && open($("file").files[0]));
	$("header").addEventListener("change", () => {
		useHeader();
		show();
	});
	$("column").addEventListener("change", () => {
		run = null;
		show();
	});
	$("batch-form").addEventListener("submit", (event) => {
		event.preventDefault();
		if (!run?.controller) start(currentAPI());
	});
	$("batch-cancel").addEventListener("click", () => {
		cancel();
		$("batch-run").hidden = false;
		$("batch-run").focus(); // the button that had the focus goes away
	});
	$("batch-save").addEventListener("click", () => {
		// The mark tells Excel that this is UTF-8.
		const csv = "\ufeff" + writeCSV(table(), {plain: !$("guard").checked});
		save(file.name.replace(/\.\w+$/, "") + "-results.csv", "text/csv;charset=utf-8", csv);
	});
	addEventListener("beforeunload", (event) => {
		if (run?.controller) event.preventDefault(); // the browser asks whether to leave
	});
	onTranslate(() => {
		if (message) say(message.key, message.values);
		show();
	});
}
