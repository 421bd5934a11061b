#!/usr/bin/env bash
# The articles' own service and caddy-infer side by side: the same BERT-base
# shape, the same requests, one server after the other on this machine.
#
#   bench/inference/run.sh                    prints the table, keeps it in bench/results/
#   PYTHON=/path/to/python bench/inference/run.sh
#   DURATION=20s LEVELS=1,8,32 TUNING=5s bench/inference/run.sh
#   MODEL_DIR=… CADDY=… bench/inference/run.sh       with a model or a build that is there
#
# Needs Go, a C compiler, and a Python with
#   pip install torch numpy safetensors flask gunicorn onnx onnxruntime
# Nothing but 127.0.0.1 is loaded. Run it on a machine with nothing else to do:
# the last column says how much of its CPU time others used meanwhile.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-python3}
duration=${DURATION:-10s} tuning=${TUNING:-5s} levels=${LEVELS:-1,8,32}
cores=$(nproc)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=${MODEL_DIR:-$work/bert}
results=$work/results.jsonl report=${REPORT:-bench/results/inference-$(date -u +%F).md}
port=18999

if [ ! -e "$model/model.int8.onnx" ]; then
	echo "Making a BERT-base with random weights" >&2
	"$python" bench/inference/model.py "$model"
	"$python" examples/export/onnx_bert.py --int8 "$model" >&2
fi

echo "Building" >&2
go build -o "$work/load" ./bench/inference/load
if [ -n "${CADDY:-}" ]; then
	ln -s "$CADDY" "$work/caddy"
else
	xcaddy=$(command -v xcaddy) || {
		xcaddy=$work/xcaddy
		mkdir "$work/tool"
		(cd "$work/tool" && go mod init tool && go get github.com/caddyserver/xcaddy/cmd/xcaddy@v0.4.6 &&
			go build -mod=mod -o "$xcaddy" github.com/caddyserver/xcaddy/cmd/xcaddy) >"$work/tool.log" 2>&1 ||
			{ tail -n 30 "$work/tool.log" >&2; exit 1; }
	}
	m=github.com/caddy-infer/caddy-infer
	CGO_ENABLED=1 "$xcaddy" build v2.11.9 --output "$work/caddy" \
		--with "$m@v0.0.0" --replace "$m@v0.0.0=$PWD" \
		--with "$m/inference/onnxruntime@v0.0.0" --replace "$m/inference/onnxruntime@v0.0.0=$PWD/inference/onnxruntime" \
		>"$work/xcaddy.log" 2>&1 || { tail -n 30 "$work/xcaddy.log" >&2; exit 1; }
fi
ONNXRUNTIME_LIB=${ONNXRUNTIME_LIB:-$("$python" -c 'import os, onnxruntime; print(os.path.join(os.path.dirname(onnxruntime.__file__), "capi"))')}
export ONNXRUNTIME_LIB

# load NAME [OPTION…] -- COMMAND…
load() {
	local name=$1
	shift
	"$work/load" -name "$name" -url "http://127.0.0.1:$port/predict" -out "$results" "$@" 2>>"$work/servers.log" ||
		{ tail -n 30 "$work/servers.log" >&2; return 1; }
	tail -n 1 "$work/servers.log" >&2
}

# fastest PREFIX CONCURRENCY: the name of the fastest setting tried.
fastest() {
	"$python" -c 'import json, sys
rows = [r for r in map(json.loads, open(sys.argv[1])) if r["name"].startswith(sys.argv[2]) and r["concurrency"] == int(sys.argv[3])]
print(max(rows, key=lambda r: r["per_second"])["name"])' "$work/tuning.jsonl" "$1" "$2"
}

# flask PRECISION: finds the fastest settings for one request at a time and for
# eight, then measures each where it wins: the baseline is the best of its kind
# at every concurrency.
flask() {
	local precision=$1 setting name threads wait concurrent command level best
	local all=$results
	results=$work/tuning.jsonl
	for setting in "1 passive 1" "$cores active 1" "$cores passive 1" "1 passive $cores" "1 passive 8"; do
		read -r threads wait concurrent <<<"$setting"
		flask_command
		load "$(flask_name)" -c 1,8 -duration "$tuning" -warmup 1s -- "${command[@]}"
	done
	results=$all
	for level in ${levels//,/ }; do
		best=$(fastest "Flask + PyTorch $precision," $((level < 8 ? 1 : 8)))
		read -r threads wait concurrent < <(sed -E 's/.*torch threads ([0-9]+), OpenMP (\w+), gunicorn threads ([0-9]+).*/\1 \2 \3/' <<<"$best")
		echo "$best: the fastest for c=$level" | tee -a "$work/notes" >&2
		flask_command
		load "Flask + PyTorch $precision, tuned" -c "$level" -duration "$duration" -- "${command[@]}"
	done
}

flask_name() {
	echo "Flask + PyTorch $precision, torch threads $threads, OpenMP $wait, gunicorn threads $concurrent"
}

flask_command() {
	command=(env MODEL_DIR="$model" PRECISION="$precision" TORCH_THREADS="$threads" OMP_NUM_THREADS="$threads"
		MKL_NUM_THREADS="$threads" OMP_WAIT_POLICY="$wait" PYTHONWARNINGS=ignore
		"$python" -m gunicorn --chdir bench/inference/flask -w 1 --threads "$concurrent" --log-level error
		-b "127.0.0.1:$port" app:app)
}

# caddy NAME MODEL-OPTIONS
caddy() {
	local name=$1
	cat >"$work/Caddyfile" <<-CADDYFILE
		{
			admin off
			auto_https off
			metrics
			log {
				level ERROR
			}
			inference {
				model bert $model {
					$2
				}
			}
		}
		http://127.0.0.1:$port {
			metrics /metrics
			inference bert
		}
	CADDYFILE
	load "$name" -c "$levels" -duration "$duration" -metrics "http://127.0.0.1:$port/metrics" -- \
		"$work/caddy" run --adapter caddyfile --config "$work/Caddyfile"
}

# direct PRECISION WORKERS THREADS BATCH
direct() {
	"$python" bench/inference/direct.py --precision "$1" --workers "$2" --threads "$3" --batch "$4" --seconds "${duration%s}" "$model" |
		tee -a "$results" >&2
}

export XDG_DATA_HOME=$work XDG_CONFIG_HOME=$work
flask fp32
flask int8
caddy "Caddy + go fp32" "engine go
precision fp32"
caddy "Caddy + onnxruntime fp32, $cores workers × 1 thread" "engine onnxruntime
precision fp32"
for batch in 1 4 16; do direct fp32 "$cores" 1 $batch; done
caddy "Caddy + go INT8" "engine go
precision int8"
caddy "Caddy + onnxruntime INT8, $cores workers × 1 thread" "engine onnxruntime
precision int8"
caddy "Caddy + onnxruntime INT8, 1 worker × $cores threads" "engine onnxruntime
precision int8
workers 1
threads $cores"
for batch in 1 4 16; do direct int8 "$cores" 1 $batch; done

{
	echo "# Side by side, $(date -u +%F)"
	echo
	echo "\`bench/inference/run.sh\` on $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1), $cores CPUs, Linux $(uname -r);" \
		"$(go version | cut -d' ' -f3); $("$python" -c 'import torch, onnxruntime, flask, importlib.metadata as m; print("PyTorch", torch.__version__ + ", ONNX Runtime", onnxruntime.__version__ + ", Flask", m.version("flask") + ", gunicorn", m.version("gunicorn"))')."
	echo "BERT-base shape, random weights; the articles' three sentences in turn (13 to 17 characters);" \
		"$duration for each figure after 2 s of warming up. Ratios are to the tuned Flask fp32 at the same concurrency," \
		"or to its best where a row has none."
	echo
	sed 's/^/- /' "$work/notes"
	echo
	"$work/load" -table "$results" -base "Flask + PyTorch fp32, tuned"
	echo
	echo "How Flask was tuned ($tuning each):"
	echo
	"$work/load" -table "$work/tuning.jsonl"
} | tee "$report"
