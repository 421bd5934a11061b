// One request to the model's public API, and what can go wrong with it.

import {has} from "./words.js";

const timeout = 60_000; // ms: a whole gateway's worth of retries fits in
const longest = 30;     // s: a longer Retry-After is the reader's decision

// ask posts a body and returns {json, total, timing, node, model, fallback}, or
// {key, values, detail, again, after} naming what went wrong.
export async function ask(api, body, signal) {
	const begin = performance.now();
	const limit = AbortSignal.timeout(timeout);
	try {
		const response = await fetch(api, {
			method: "POST",
			headers: {"Content-Type": "application/json", "Accept": "application/json"},
			body: JSON.stringify(body),
			signal: AbortSignal.any([signal, limit]),
		});
		const text = await response.text();
		const total = performance.now() - begin; // ms
		let json;
		try { json = JSON.parse(text); } catch { json = undefined; }
		if (!response.ok) return failure(response, json, api);
		if (json === undefined) return unknown(text);
		const header = (name) => response.headers.get(name) ?? "";
		return {
			json, total, timing: header("Server-Timing"),
			node: header("X-Upstream") || header("X-Node") || header("X-Served-By"),
			model: header("X-Inference-Model"), fallback: header("X-Caddy-Infer-Fallback"),
		};
	} catch (error) {
		if (limit.aborted) return {key: "e_timeout", values: {n: timeout / 1000}};
		return {key: "e_network", detail: error.message, again: true, network: true};
	}
}

export const unknown = (answer) => ({key: "e_json", detail: (typeof answer === "string" ? answer : JSON.stringify(answer)).slice(0, 200)});

function failure(response, json, api) {
	const after = Number(response.headers.get("Retry-After"));
	return {
		key: has("e_" + response.status) ? "e_" + response.status : "e_status",
		status: response.status,
		values: {n: response.status, api: api.pathname},
		detail: typeof json?.error === "string" ? json.error : "",
		// These pass: a queue drains, a node returns. The rest would fail again.
		again: [429, 502, 503, 504].includes(response.status) && !(after > longest),
		after: after > 0 ? after : 0,
	};
}

// pause is how many seconds to wait before attempt is followed by another. A
// broken connection is tried anew at once: another node may hold the address by then.
export function pause(problem, attempt) {
	if (problem.after) return problem.after;
	return problem.network && attempt === 1 ? 0 : 2 ** (attempt - 1);
}
