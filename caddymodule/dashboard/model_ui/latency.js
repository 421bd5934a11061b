// Where the reader's time went, and which node it went to.

import {$, element, t} from "./words.js";

const ms = (d) => (d < 10 ? d.toFixed(1) : d.toFixed(0)) + " ms";

// showLatency splits the time the reader waited into what the node reports by
// Server-Timing and the rest: network, gateway and queueing on the way.
export function showLatency({total, timing, node, model, fallback, attempts}) {
	const phases = [];
	let known = 0, whole = 0;
	for (const part of timing.split(",").slice(0, 20)) {
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
	const server = Math.max(known, whole);
	if (phases.length || whole) phases.push(["rest", Math.max(0, total - server)]);
	const look = (name, i) => name === "rest" ? "rest" : "p" + i % 4;
	$("bar").replaceChildren(...phases.map(([name, d], i) => {
		const part = element("span", {class: look(name, i)});
		part.style.flexGrow = d; // the CSSOM, which the policy allows
		return part;
	}));
	const fact = (label, value, attributes = {}) => element("li", attributes, label + " ", element("b", {}, value));
	$("phases").replaceChildren(
		fact(t("total"), ms(total)),
		...(server ? [fact(t("server"), ms(server))] : []),
		...phases.map(([name, d], i) => fact(t(name), ms(d), {class: look(name, i)})));
	$("served").replaceChildren(
		...(node ? [fact(t("node"), node, {id: "node"})] : []),
		...(model ? [fact(t("served_by"), model)] : []),
		...(fallback ? [element("li", {class: "warn"}, t("fallback", {name: fallback}))] : []),
		...(attempts > 1 ? [element("li", {class: "warn", id: "attempts"}, t("attempts", {n: attempts}))] : []));
}
