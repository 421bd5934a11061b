import {element, entityView, labelView} from "./render.js";

const config = JSON.parse(document.getElementById("config").textContent);
const api = new URL(config.api, document.baseURI);
const $ = (id) => document.getElementById(id);
const timeout = 60_000; // ms: a whole gateway's worth of retries fits in
const tries = 3;        // automatic ones, after failures that may pass

// ---- language and theme

let lang = recall("lang") ?? document.documentElement.lang;
if (!config.strings[lang]) lang = "en";

function t(key, values = {}) {
	const text = config.strings[lang][key] ?? key;
	return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

function translate() {
	document.documentElement.lang = lang;
	for (const e of document.querySelectorAll("[data-t]")) e.textContent = t(e.dataset.t);
	for (const e of document.querySelectorAll("[data-t-placeholder]")) e.placeholder = t(e.dataset.tPlaceholder);
	for (const e of document.querySelectorAll("[data-t-label]")) e.title = e.ariaLabel = t(e.dataset.tLabel);
	document.title = $("title").textContent = config.title || t("title_" + config.task);
	const other = lang === "zh" ? "en" : "zh";
	$("lang").textContent = config.strings[other].name;
	$("lang").lang = $("lang").hreflang = other;
	$("lang").href = "?lang=" + other;
	count();
	if (last) showAnswer(last);
	if (problem) showProblem(problem);
}

$("lang").addEventListener("click", (event) => {
	event.preventDefault(); // without script the link asks the server; here what was typed stays
	lang = lang === "zh" ? "en" : "zh";
	remember("lang", lang);
	translate();
});

const theme = recall("theme");
if (theme) document.documentElement.dataset.theme = theme;
$("theme").addEventListener("click", () => {
	const root = document.documentElement;
	const now = root.dataset.theme ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");
	root.dataset.theme = now === "dark" ? "light" : "dark";
	remember("theme", root.dataset.theme);
});

// Storage can be forbidden (private windows, embedded pages): then choices last for the visit.
function recall(key) {
	try { return localStorage.getItem("model_ui." + key); } catch { return null; }
}
function remember(key, value) {
	try { localStorage.setItem("model_ui." + key, value); } catch { /* as above */ }
}

// ---- input

const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
$("keys").textContent = isMac ? "⌘↵" : "Ctrl+Enter";
$("text").addEventListener("keydown", (event) => {
	if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
		event.preventDefault();
		analyse();
	}
});
$("text").addEventListener("input", count);
$("form").addEventListener("submit", (event) => {
	event.preventDefault();
	analyse();
});
$("retry").addEventListener("click", () => analyse());
$("cancel").addEventListener("click", () => stop());
for (const button of document.querySelectorAll(".example")) {
	button.addEventListener("click", () => {
		$("text").value = button.textContent;
		count();
		analyse();
	});
}

function count() {
	$("count").textContent = t("chars", {n: [...$("text").value].length});
}

// ---- asking

let current = null; // the request or the wait for the next one
let last = null;    // the answer shown
let problem = null; // the failure shown

function stop() {
	current?.abort();
	current = null;
	clearInterval(ticker);
	$("problem-wait").textContent = "";
	busy(false);
}

function busy(on) {
	$("cancel").hidden = !on;
	$("form").ariaBusy = on;
	$("result").classList.toggle("stale", on);
}

async function analyse(attempt = 1) {
	stop();
	const text = $("text").value;
	if (!text.trim()) return fail({key: "e_empty"});
	const controller = current = new AbortController();
	busy(true);
	const answer = await ask(text, controller.signal);
	if (controller !== current) return; // a newer request or the user took over
	if (!answer.key) {
		stop();
		problem = null;
		$("problem").hidden = true;
		return showAnswer(last = answer);
	}
	fail(answer);
	if (answer.again && attempt < tries) return waitThenRetry(answer, attempt, controller);
	stop();
}

// ask returns the answer with its timings, or {key, …} naming what went wrong.
async function ask(text, signal) {
	const begin = performance.now();
	const limit = AbortSignal.timeout(timeout);
	try {
		const response = await fetch(api, {
			method: "POST",
			headers: {"Content-Type": "application/json", "Accept": "application/json"},
			body: JSON.stringify({text}),
			signal: AbortSignal.any([signal, limit]),
		});
		const body = await response.text();
		const total = performance.now() - begin;
		let json;
		try { json = JSON.parse(body); } catch { json = null; }
		if (!response.ok) return failure(response, json);
		if (!Array.isArray(json?.output) && json?.label === undefined && !json?.labels?.length) return {key: "e_json", detail: body.slice(0, 200)};
		return {text, json, total, timing: response.headers.get("Server-Timing") ?? "", node: nodeOf(response.headers), model: response.headers.get("X-Inference-Model")};
	} catch (error) {
		if (limit.aborted) return {key: "e_timeout", values: {n: timeout / 1000}};
		return {key: "e_network", detail: error.message, again: true};
	}
}

function failure(response, json) {
	const known = "e_" + response.status;
	const after = Number(response.headers.get("Retry-After"));
	return {
		key: known in config.strings.en ? known : "e_status",
		values: {n: response.status, api: api.pathname},
		detail: typeof json?.error === "string" ? json.error : "",
		// These pass: a queue drains, a node returns. The rest would fail again.
		again: [429, 502, 503, 504].includes(response.status),
		after: after > 0 && after <= 30 ? after : 0, // s; longer waits are the user's decision
	};
}

function nodeOf(headers) {
	for (const name of ["X-Upstream", "X-Node", "X-Served-By"]) {
		const value = headers.get(name);
		if (value) return value;
	}
	return "";
}

// ---- failures

let ticker;

function fail(what) {
	problem = what;
	showProblem(what);
}

function showProblem(what) {
	$("problem-text").textContent = t(what.key, what.values);
	$("problem-detail").textContent = what.detail ?? "";
	$("retry").hidden = what.key === "e_empty";
	$("problem").hidden = false;
}

function waitThenRetry(what, attempt, controller) {
	let left = what.after || 2 ** (attempt - 1);
	const tick = () => {
		if (controller !== current) return clearInterval(ticker);
		if (left-- > 0) return void ($("problem-wait").textContent = t("waiting", {n: left + 1}));
		clearInterval(ticker);
		analyse(attempt + 1);
	};
	tick();
	ticker = setInterval(tick, 1000);
}

// ---- answers

function showAnswer(answer) {
	const {json} = answer;
	const isNER = Array.isArray(json.output);
	const text = typeof json.text === "string" ? json.text : answer.text;
	$("answer").replaceChildren(...(isNER ? entityView(text, json.output, t) : labelView(json)));
	$("summary").textContent = isNER ? t("entities", {n: json.output.length}) : String(json.label ?? "");
	$("json").textContent = JSON.stringify(json, null, 2);
	$("curl").textContent = `curl -H 'Content-Type: application/json' -d ${quote(JSON.stringify({text: answer.text}))} ${quote(api.href)}`;
	showLatency(answer);
	$("result").hidden = false;
}

const quote = (s) => "'" + s.replaceAll("'", "'\\''") + "'"; // for POSIX shells

// showLatency splits the time the user waited into what the node reports by
// Server-Timing and the rest: network, gateway and queueing on the way.
function showLatency({total, timing, node, model}) {
	const phases = [];
	let known = 0, whole = 0;
	for (const part of timing.split(",")) {
		const [name, ...parameters] = part.split(";").map((s) => s.trim());
		const duration = Number(parameters.find((p) => p.startsWith("dur="))?.slice(4));
		if (!name || !(duration >= 0)) continue;
		if (name === "total") {
			whole = duration;
			continue;
		}
		phases.push([name === "run" ? "run_phase" : name, duration]);
		known += duration;
	}
	if (phases.length || whole) phases.push(["rest", Math.max(0, total - Math.max(known, whole))]);
	const ms = (d) => (d < 10 ? d.toFixed(1) : d.toFixed(0)) + " ms";
	$("bar").replaceChildren(...phases.map(([name, d], i) => {
		const part = element("span", {class: name === "rest" ? "rest" : "p" + i % 4});
		part.style.flexGrow = d;
		return part;
	}));
	$("phases").replaceChildren(
		element("li", {}, `${t("total")} ${ms(total)}`),
		...phases.map(([name, d], i) => element("li", {class: name === "rest" ? "rest" : "p" + i % 4}, `${t(name)} ${ms(d)}`)),
		...(node ? [element("li", {}, `${t("node")} ${node}`)] : []),
		...(model ? [element("li", {}, `${t("served_by")} ${model}`)] : []));
}

for (const button of document.querySelectorAll(".copy")) {
	// Only secure contexts have a clipboard; elsewhere the text can be selected.
	button.hidden = !navigator.clipboard;
	button.addEventListener("click", async () => {
		await navigator.clipboard.writeText($(button.dataset.copy).textContent);
		button.textContent = t("copied");
		setTimeout(() => button.textContent = t("copy"), 1500);
	});
}

translate();
