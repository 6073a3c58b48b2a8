#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# test_command.sh OUTRIDER MAKE_TINY: the command's usage, exit codes, JSON and equal hashes, on a tiny model.
set -u
outrider=$1
make_tiny=$2
command -v python3 >/dev/null || {
  echo "test_command: skipped: no python3 to read JSON with"
  exit 77
}
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failures=0

fail() {
  echo "FAILED: $*"
  failures=$((failures + 1))
}

# The self-check of all devices is most of a start's time, above all under sanitizers: once is enough.
trust=--no-self-check

# expect CODE ARGUMENT...: runs the command; stdout and stderr are in $folder/out and $folder/err.
expect() {
  wanted=$1
  shift
  case ${1:-} in
    bench | chat | compare | convert | inspect | logits | perplexity | run | verify)
      subcommand=$1
      shift
      set -- "$subcommand" $trust "$@"
      ;;
  esac
  "$outrider" "$@" >"$folder/out" 2>"$folder/err" </dev/null
  code=$?
  [ "$code" = "$wanted" ] || fail "exit code $code, not $wanted: outrider $* ($(head -n 1 "$folder/err"))"
}

# json EXPRESSION: the last output is JSON, and the Python expression over it (`j`) is true.
json() {
  python3 -c 'import json, sys
j = json.load(open(sys.argv[1]))
sys.exit(0 if eval(sys.argv[2]) else 1)' "$folder/out" "$1" || fail "JSON: $1: $(tr '\n' ' ' <"$folder/out" | cut -c 1-300)"
}

# says TEXT: stderr holds the text.
says() {
  grep -qF -- "$1" "$folder/err" || fail "stderr does not say \"$1\": $(head -n 1 "$folder/err")"
}

usage() {
  expect 0 --help
  for part in run chat convert verify perplexity compare logits bench inspect analyze plan formats devices tokenize; do
    grep -q "^  $part " "$folder/out" || fail "--help does not list $part"
  done
  for part in run chat convert verify perplexity compare logits bench inspect analyze plan formats devices tokenize; do
    expect 0 "$part" --help
    grep -q "^Usage: outrider $part " "$folder/out" || fail "$part --help has no usage line"
    grep -q "Exit codes" "$folder/out" || fail "$part --help does not name the exit codes"
    expect 2 "$part" --no-such-option
    says "outrider $part: "
  done
  expect 0 --version
  grep -q "^outrider [0-9]*\.[0-9]*\.[0-9]* (numerical contract [0-9]*)$" "$folder/out" || fail "--version"
  expect 2
  expect 2 no-such-command
  says "no-such-command"
}

bad_usage() {
  for part in run chat convert verify perplexity compare logits bench inspect analyze plan formats tokenize; do expect 2 "$part"; done
  expect 2 plan
  says "MODEL or PARAMS is missing"
  expect 2 run "$folder/tiny.gguf"
  expect 2 run "$folder/tiny.gguf" another.gguf -p x
  expect 2 run "$folder/tiny.gguf" -p x -n -1
  expect 2 run "$folder/tiny.gguf" -p x --temp nan
  expect 2 run "$folder/tiny.gguf" -p x --top-p 0
  expect 2 run "$folder/tiny.gguf" -p x --threads 0
  expect 2 run "$folder/tiny.gguf" -p x --outliers relative=0
  expect 2 run "$folder/tiny.gguf" -p x --outliers sometimes
  expect 2 run "$folder/tiny.gguf" -p x --raw --system y
  expect 2 chat "$folder/tiny.gguf" --on-full never
  expect 2 bench "$folder/tiny.gguf" --prefill 1,,2
  expect 2 bench "$folder/tiny.gguf" --threads 1,x
  expect 2 logits "$folder/tiny.gguf"
  expect 2 logits "$folder/tiny.gguf" --tokens "$folder/ids" --beside --hidden-out x
  expect 2 perplexity "$folder/tiny.gguf"
  expect 2 perplexity "$folder/tiny.gguf" "$folder/text" --tokens "$folder/ids"
  expect 2 perplexity "$folder/tiny.gguf" "$folder/text" --scheme int4
  expect 2 tokenize "$folder/tiny.gguf"
}

failing() {
  for part in verify inspect bench; do
    expect 1 "$part" "$folder/missing.gguf"
    says "outrider: "
    says "missing.gguf"
  done
  printf 'not a model' >"$folder/bad.gguf"
  for part in verify inspect bench; do
    expect 1 "$part" "$folder/bad.gguf"
    says "outrider: "
  done
  for part in verify inspect bench; do
    expect 1 "$part" "$folder"
    says "outrider convert"
  done
  "$outrider" inspect $trust "$folder/tiny.gguf" --json | python3 -c 'import json, sys
data = bytearray(open(sys.argv[1], "rb").read())
at = next(t["offset"] for t in json.load(sys.stdin)["tensors"] if t["name"] == "blk.0.ffn_down.weight")
data[at:at + 4] = b"\xff" * 4
open(sys.argv[2], "wb").write(data)' "$folder/tiny.gguf" "$folder/nan.gguf"
  expect 1 compare "$folder/nan.gguf" --tokens "$folder/ids" --windows 1 --schemes off
  says "nan.gguf: tensor blk.0.ffn_down.weight: row 0 has a value that is not finite"
  expect 1 run "$folder/bad.gguf" -p x
  expect 1 logits "$folder/tiny.gguf" --tokens "$folder/missing"
  expect 1 logits "$folder/tiny.gguf" --tokens "$folder/text"
  says "is not a token id"
  echo "1 2 320" >"$folder/outside"
  expect 1 logits "$folder/tiny.gguf" --tokens "$folder/outside"
  says "320"
  expect 1 logits "$folder/tiny.gguf" --tokens "$folder/ids" --window 3
  expect 1 logits "$folder/tiny.gguf" --tokens "$folder/ids" --device no-such-device
  says "no-such-device"
  expect 1 run "$folder/tiny.gguf" -p x --template no-such-template
  expect 1 chat "$folder/tiny.gguf"
  says "--template"
  expect 1 verify "$folder/tiny.gguf"
  says "no hash"
  expect 0 convert "$(dirname "$0")/fixtures/hf/llama-linear" "$folder/ids_only.gguf"
  says "has no tokenizer"
  for part in run chat tokenize; do
    expect 1 $part "$folder/ids_only.gguf" $([ $part = chat ] || echo "-p x")
    says "no tokenizer (tokenizer.ggml.model): the model takes token ids alone"
  done
  expect 1 perplexity "$folder/ids_only.gguf" "$folder/text"
  says "(--tokens)"
}

listing() {
  expect 0 devices --json
  json 'any(d["name"] == "cpu" and d["available"] for d in j["devices"])'
  expect 0 devices --check --json
  json 'all(d["check"] in ("passed", "demoted") for d in j["devices"] if d["available"])'
  expect 0 devices
  expect 0 inspect "$folder/tiny.gguf"
  expect 0 inspect "$folder/tiny.gguf" --json --ctx 512 --batch 64
  json 'j["plan"]["n_ctx"] == 512 and j["plan"]["n_batch"] == 64 and j["plan"]["quantizes"]'
  json 'any(t["name"] == "token_embd.weight" for t in j["tensors"])'
  json 'any(m["key"] == "general.architecture" and m["value"] == "llama" for m in j["metadata"])'
}

analyses() {
  expect 0 analyze "$folder/tiny.gguf" "$folder/tiny.gguf" --tokens "$folder/ids" --json --ablate --magnitude 2 \
    --positions 1 --html "$folder/page.html"
  json 'len(j["models"]) == 2 and j["models"][0] == j["models"][1] and j["models"][0]["tokens"] == 120'
  json 'all(m["features"] and 0 < m["int8_share"] < 1 and len(m["ablation"]) == 4 for m in j["models"])'
  json '[i["input"] for i in j["models"][0]["inputs"]][:2] == ["attention input", "MLP input"]'
  json 'all(i["batches"][0]["tokens"] == 1 and i["outlier_share"] >= 0 for i in j["models"][0]["inputs"])'
  grep -q "</html>" "$folder/page.html" || fail "the page of analyze is not whole"
  grep -q "http" "$folder/page.html" && fail "the page of analyze needs a network"
  expect 0 analyze "$folder/tiny.gguf" --text "$folder/text" --windows 1 --ctx 8 --layers 50 --threads 1
  grep -q "outlier features: " "$folder/out" || fail "analyze says nothing of features"
  expect 2 analyze "$folder/tiny.gguf"
  expect 2 analyze "$folder/tiny.gguf" --tokens "$folder/ids" --text "$folder/text"
  expect 2 analyze "$folder/tiny.gguf" --tokens "$folder/ids" --magnitude 0
  expect 1 analyze "$folder/missing.gguf" --tokens "$folder/ids"
  says "missing.gguf"
  expect 1 analyze "$folder/tiny.gguf" --tokens "$folder/ids" --html "$folder/no/page.html"
}

plans() {
  expect 0 plan 176B --ctx 2048 --json
  json 'abs(j["parameters"] - 176e9) < 1e6 and abs(j["weights"]["fp16"] - 352e9) < 1e6 and not j["exact"]'
  json 'j["kv"][-1]["n_ctx"] == 2048 and j["weights"]["nf4 double"] < j["weights"]["nf4"] < j["weights"]["int8"]'
  json 'next(d for d in j["devices"] if d["device"] == "8 GPUs of 24 GB")["positions"]["fp16"] == 0'
  expect 0 plan "$folder/tiny.gguf" --json
  json 'j["exact"] and j["parameters"] > 0 and all(d["positions"]["fp16"] > j["n_ctx"] for d in j["devices"])'
  expect 0 plan "$folder/tiny.gguf" --ctx 8192 --columns 5 --lora-rank 8
  expect 0 plan 1.3b
  expect 1 plan 12
  says "neither a file nor a number"
  expect 1 plan "$folder/ids"
  says "ids"
}

numbers() {
  expect 0 formats -0.1 --absmax 0.5 --json
  json '[f["format"] for f in j["formats"]] == ["FP32", "FP16", "BF16", "TF32", "FP8 E4M3", "FP8 E5M2", "INT8"]'
  json 'j["formats"][4]["hex"] == "0x9D" and j["formats"][4]["value"] == -0.1015625 and j["formats"][6]["q"] == -25'
  expect 0 formats 1000 --json --explain
  json 'j["formats"][4]["kind"] == "nan" and j["formats"][4]["overflow"] and j["formats"][4]["value"] is None'
  json 'len(j["formats"]) == 6 and all(len(f["steps"]) >= 4 for f in j["formats"])'
  for value in nan inf -inf -nan -0 1e-9 1e300 0x1p-149; do
    expect 0 formats $value --explain
    grep -q '^FP8 E5M2 ' "$folder/out" || fail "formats $value"
  done
  expect 1 formats nan --absmax 1
  expect 2 formats 1 2
  expect 2 formats one
  expect 2 formats 1 --absmax 0
}

# same ARGUMENT...: the hash of the first window is the one of the reference.
same() {
  expect 0 logits "$folder/tiny.gguf" --tokens "$folder/ids" "$@"
  [ "$(cat "$folder/out")" = "$hash" ] || fail "another hash: logits $*"
}

hashes() {
  expect 0 logits "$folder/tiny.gguf" --tokens "$folder/ids" --device cpu --threads 1 --out "$folder/logits"
  hash=$(cat "$folder/out")
  [ "$(sha256sum <"$folder/logits" | cut -d ' ' -f 1)" = "$hash" ] || fail "the hash is not that of --out"
  [ "$(wc -c <"$folder/logits")" = $((40 * 320 * 4)) ] || fail "size of --out"
  trust=
  same
  trust=--no-self-check
  for threads in 1 2 3; do same --threads $threads; done
  for split in 1 7 40; do same --split $split; done
  same --state-roundtrip --split 9
  same --beside --split 16
  for device in $("$outrider" devices --json | python3 -c 'import json, sys
print(*[d["name"] for d in json.load(sys.stdin)["devices"] if d["available"]])'); do
    same --device "$device"
  done
  expect 0 logits "$folder/tiny.gguf" --tokens "$folder/ids" --outliers off
  [ "$(cat "$folder/out")" != "$hash" ] || fail "--outliers changes nothing"
  expect 0 logits "$folder/tiny.gguf" --tokens "$folder/ids" --window 2 --n 5 --json --hidden-out "$folder/hidden"
  json 'j["n"] == 5 and j["vocab"] == 320 and len(j["sha256"]) == 64'
  [ "$(($(wc -c <"$folder/hidden") % (5 * 4)))" = 0 ] || fail "size of --hidden-out"
}

# The converted file gives the source's bits, and a changed byte of its weights does not go unseen.
conversions() {
  expect 0 convert "$folder/tiny.gguf" "$folder/tiny8.gguf"
  expect 0 convert "$folder/tiny.gguf" "$folder/again.gguf" --threads 1 --device cpu --json
  json 'True'
  cmp -s "$folder/tiny8.gguf" "$folder/again.gguf" || fail "convert gives other bytes the second time"
  expect 0 logits "$folder/tiny.gguf" --tokens "$folder/ids"
  hash=$(cat "$folder/out")
  expect 0 logits "$folder/tiny8.gguf" --tokens "$folder/ids"
  [ "$(cat "$folder/out")" = "$hash" ] || fail "the converted model gives another hash"
  expect 0 verify "$folder/tiny8.gguf" --json
  json 'j["result"] == "same" and j["expected"] == j["actual"]'
  expect 0 verify "$folder/tiny8.gguf" --device cpu
  expect 3 verify "$folder/tiny8.gguf" --outliers off --json
  json 'j["result"] == "mismatch" and j["expected"] != j["actual"] and "reference" in j["where"]'
  python3 - "$folder/tiny8.gguf" "$folder/changed.gguf" "$("$outrider" inspect "$folder/tiny8.gguf" --json |
    python3 -c 'import json, sys
print(next(t["offset"] for t in json.load(sys.stdin)["tensors"] if t["name"] == "blk.0.attn_q.weight"))')" <<'END'
import sys
data = bytearray(open(sys.argv[1], "rb").read())
data[int(sys.argv[3]) + 5] ^= 64
open(sys.argv[2], "wb").write(data)
END
  expect 3 verify "$folder/changed.gguf"
  expect 0 inspect "$folder/tiny8.gguf" --json
  json 'not j["plan"]["quantizes"]'
  expect 1 perplexity "$folder/tiny8.gguf" --tokens "$folder/ids" --scheme f32
  says "source"
  expect 1 convert "$folder/missing.gguf" "$folder/x.gguf"
  calibrations
  expect 2 convert "$folder/tiny.gguf" "$folder/x.gguf" --f16-columns some
}

# A calibrated file holds columns and rules of its own, runs alike on all devices, and is the same every time.
calibrations() {
  expect 0 convert "$folder/tiny.gguf" "$folder/calibrated.gguf" --calibrate "$folder/text" --json
  json 'j["calibration_tokens"] > 0 and 0 < j["f16_columns"] <= 0.02 * j["columns"]'
  expect 0 verify "$folder/calibrated.gguf"
  expect 0 verify "$folder/calibrated.gguf" --device cpu
  expect 0 logits "$folder/calibrated.gguf" --tokens "$folder/ids"
  [ "$(cat "$folder/out")" != "$hash" ] || fail "f16 columns change nothing"
  expect 0 convert "$folder/tiny.gguf" "$folder/again.gguf" --calibrate "$folder/text" --threads 1 --f16-columns calibrated
  cmp -s "$folder/calibrated.gguf" "$folder/again.gguf" || fail "convert --calibrate gives other bytes the second time"
  expect 0 convert "$folder/tiny.gguf" "$folder/calibrated.gguf" --calibrate "$folder/text" --outlier-share 2 \
    --f16-columns none --keep-f16 "blk.0.*" --json
  json 'j["f16_columns"] == 0 and j["f16_weights"] == 7'
  expect 0 verify "$folder/calibrated.gguf"
  expect 0 inspect "$folder/calibrated.gguf" --json
  json 'any(m["key"] == "outrider.outliers.rules" and m["value"][0] == "absolute" for m in j["metadata"])'
  expect 1 convert "$folder/tiny.gguf" "$folder/x.gguf" --calibrate "$folder/missing"
  # What is wrong with the names is said first: calibrating may take minutes.
  expect 1 convert "$folder/tiny.gguf" "$folder/x.gguf" --calibrate "$folder/missing" --keep-f16 "no.*"
  says "no.*"
  for option in "--f16-columns calibrated" "--outlier-share 1" "--column-share 1" \
    "--calibrate $folder/text --outlier-share 1 --outliers off"; do
    expect 2 convert "$folder/tiny.gguf" "$folder/x.gguf" $option
  done
}

measures() {
  expect 0 perplexity "$folder/tiny.gguf" --tokens "$folder/ids" --json --nll-out "$folder/nll" --top1-out "$folder/top" \
    --kl-base "$folder/tiny.gguf"
  json 'j["tokens"] == 117 and j["windows"] == 3 and j["ppl"] > 1 and j["ppl_second_half"] > 1'
  json '0 < j["outlier_share"] < 1 and j["kl"] > 0 and 0 <= j["top1_same"] <= 1'
  [ "$(wc -c <"$folder/nll")" = $((117 * 4)) ] || fail "size of --nll-out"
  [ "$(wc -c <"$folder/top")" = $((120 * 4)) ] || fail "size of --top1-out"
  expect 0 perplexity "$folder/tiny.gguf" --tokens "$folder/ids" --scheme f32 --windows 2 --json
  json 'j["tokens"] == 78 and j["scheme"] == "f32" and j["outlier_share"] == 0'
  expect 0 perplexity "$folder/tiny.gguf" "$folder/text" --ctx 16 --bos --pieces --json
  json 'j["windows"] == 2'
  expect 0 perplexity "$folder/tiny.gguf" "$folder/text" --ctx 4
  expect 0 compare "$folder/tiny.gguf" --tokens "$folder/ids" --windows 2 --prompt "once the" --n 2 --json \
    --html "$folder/page.html"
  json 'len(j["schemes"]) == 19 and j["windows"] == 2 and j["schemes"][0]["kl"] == 0'
  json 'all(len(s["layer_error"]) == 3 and s["kl"] >= 0 and s["bytes"] > 0 and "text" in s for s in j["schemes"])'
  json 'sum(s["decode_tokens_per_s"] is not None for s in j["schemes"]) == 3'
  json '{s["scheme"]: s["kl"] for s in j["schemes"]}["absmax-tensor"] > 0.1'
  python3 - "$folder/page.html" <<'END' || fail "compare --html"
import sys, xml.etree.ElementTree as tree
page = open(sys.argv[1], encoding="utf-8").read()
drawings = page.split("<svg")[1:]
for drawing in drawings: tree.fromstring("<svg" + drawing[:drawing.index("</svg>") + 6])
sys.exit(not (len(drawings) > 10 and "http" not in page and "<script" not in page))
END
  expect 0 compare "$folder/tiny.gguf" --text "$folder/text" --ctx 8 --schemes off,relative=5 --no-speed
  grep -q "^relative=5 " "$folder/out" || fail "compare prints no scheme"
  expect 1 compare "$folder/tiny.gguf" --tokens "$folder/ids" --schemes int9
  says "is none of"
  expect 1 compare "$folder/tiny.gguf" --tokens "$folder/ids" --windows 3 --schemes gptq-4
  says "calibration"
  expect 1 compare "$folder/tiny.gguf" --tokens "$folder/ids" --weight output.weight
  echo 5 >"$folder/one"
  expect 1 compare "$folder/tiny.gguf" --tokens "$folder/one" --schemes off
  says "no window has two tokens"
  expect 1 compare "$folder/tiny.gguf" --tokens "$folder/ids" --windows 1 --schemes off --no-speed --json \
    --html "$folder/no/page.html"
  json 'len(j["schemes"]) == 2'
  expect 2 compare "$folder/tiny.gguf"
  expect 0 bench "$folder/tiny.gguf" --prefill 16 --decode 4,8 --threads 1,2 --repeat 1 --json
  json 'j["limits"]["read_gbs"]["1"] > 0 and j["limits"]["int8_gmacs"]["2"] > 0'
  json '[(r["test"], r["n"], r["threads"]) for r in j["results"]] == [("prefill", 16, 1), ("decode", 4, 1),
    ("decode", 8, 1), ("prefill", 16, 2), ("decode", 4, 2), ("decode", 8, 2)]'
  json 'all(r["tokens_per_s"] > 0 and r["ms"] > 0 and r["share_of_limit"] > 0 for r in j["results"])'
}

texts() {
  expect 0 tokenize "$folder/tiny.gguf" -p "the rest is here" --json
  json 'len(j["ids"]) == len(j["pieces"]) > 1'
  expect 0 tokenize "$folder/tiny.gguf" -p "the rest is here" --ids-only
  ids=$(cat "$folder/out")
  expect 0 tokenize "$folder/tiny.gguf" --ids -p "$ids"
  [ "$(cat "$folder/out")" = "the rest is here" ] || fail "tokenize and back: $(cat "$folder/out")"
  expect 1 tokenize "$folder/tiny.gguf" --ids -p "99999"
  expect 0 run "$folder/tiny.gguf" --raw -p "the" -n 8 --stats
  says "tokens/s"
  cp "$folder/out" "$folder/first"
  echo "the" | tr -d '\n' | "$outrider" run $trust "$folder/tiny.gguf" --raw -p - -n 8 --device cpu >"$folder/out" 2>&1
  cmp -s "$folder/out" "$folder/first" || fail "a prompt from standard input gives another answer"
  expect 0 run "$folder/tiny.gguf" -p "the" -n 8 --template chatml --system "a" --temp 1 --seed 3
  cp "$folder/out" "$folder/first"
  expect 0 run "$folder/tiny.gguf" -p "the" -n 8 --template chatml --system "a" --temp 1 --seed 3 --device cpu
  cmp -s "$folder/out" "$folder/first" || fail "the same seed gives another text"
}

chats() {
  printf 'the\n/help\nand\n/reset\nthe\nno such\\\nline\n/what\n/quit\nnever\n' |
    "$outrider" chat $trust "$folder/tiny.gguf" --template chatml -n 4 --stats >"$folder/out" 2>"$folder/err" ||
    fail "chat: $(head -n 1 "$folder/err")"
  [ "$(grep -c 'tokens/s' "$folder/err")" = 4 ] || fail "chat does not answer four messages"
  grep -q "/reset" "$folder/out" || fail "chat's /help"
  says "no such command"
  printf 'the rest of it is here and there\n%.0s' 1 2 3 4 5 6 |
    "$outrider" chat $trust "$folder/tiny.gguf" --template chatml -n 64 --ctx 256 >"$folder/out" 2>"$folder/err" ||
    fail "chat with a full context"
  says "context"
  for context in 512 768; do
    printf 'the rest of it is here and there\n%.0s' 1 2 3 4 5 6 7 8 |
      "$outrider" chat $trust "$folder/tiny.gguf" --template chatml -n 100 --ctx $context --on-full slide --stats >"$folder/out" \
        2>"$folder/err" || fail "chat that slides: $(head -n 1 "$folder/err")"
    [ "$(grep -c 'tokens/s' "$folder/err")" = 8 ] || fail "chat that slides does not answer all: $(cat "$folder/err")"
  done
  python3 "$(dirname "$0")/interrupt.py" "$outrider" chat $trust "$folder/tiny.gguf" --template chatml -n 0 --device cpu ||
    fail "Ctrl-C in a chat"
}

"$make_tiny" "$folder/tiny.gguf" || exit 1
awk 'BEGIN { for (w = 0; w < 3; w++) { for (i = 0; i < 40; i++) printf "%d ", (i * 37 + w * 11 + 3) % 320; print "" } }' \
  >"$folder/ids"
printf 'the rest is here\nand there\n\nthe other one\n' >"$folder/text"
for group in ${3:-usage bad_usage failing listing analyses plans numbers hashes conversions measures texts chats}; do $group; done
if [ "$failures" != 0 ]; then
  echo "$failures failures"
  exit 1
fi
echo "all passed"
