#!/usr/bin/env bash
# lm-0a1b-0: 1 x v5e:2x4, the code of revision 0000000000000000000000000000000000000000
set -uo pipefail

create() {
  gcloud compute tpus queued-resources create lm-0a1b-0 --project=lab --zone=us-west4-a --accelerator-type=v5litepod-8 --node-id=lm-0a1b-0 --runtime-version=v2-alpha-tpuv5-lite --spot
}
state() {
  gcloud compute tpus queued-resources list --project=lab --zone=us-west4-a '--filter=name~/lm-0a1b-0$' '--format=value(state.state)' || echo UNKNOWN
}
ship() {
  git archive --format=tar.gz --output=.cache/launch/lm-0a1b-0.tar.gz 0000000000000000000000000000000000000000 &&
    gcloud compute tpus queued-resources scp .cache/launch/lm-0a1b-0.tar.gz lm-0a1b-0: --project=lab --zone=us-west4-a --node=all --worker=all --batch-size=all &&
    gcloud compute tpus queued-resources ssh lm-0a1b-0 --project=lab --zone=us-west4-a --node=all --worker=all --batch-size=all '--command=set -e; test -d isoflop-000000000000 && exit 0; mkdir -p isoflop-000000000000.new; tar -xzf lm-0a1b-0.tar.gz -C isoflop-000000000000.new; cd isoflop-000000000000.new; python3 -m pip install --quiet --user uv; ~/.local/bin/uv venv --quiet --clear --relocatable --python 3.12; ~/.local/bin/uv pip install --quiet -r requirements.txt -r requirements-pods.txt; mv ../isoflop-000000000000.new ../isoflop-000000000000'
}
run() {
  gcloud compute tpus queued-resources ssh lm-0a1b-0 --project=lab --zone=us-west4-a --node=all --worker=all --batch-size=all '--command=cd isoflop-000000000000 && ISOFLOP_REVISION=0000000000000000000000000000000000000000 ISOFLOP_DIRTY=false flock ../isoflop.lock .venv/bin/python -m launch.run --config experiments/lm.py --workdir gs://bucket/runs text-size64'
}
delete() {
  gcloud compute tpus queued-resources delete lm-0a1b-0 --project=lab --zone=us-west4-a --force --quiet
}

failures=0
fail() {
  failures=$((failures + 1))
  echo "lm-0a1b-0: failure $failures, may start again 3 times"
  [ "$failures" -le 3 ] || exit 1
  sleep 30
}

trap 'trap "" TERM INT HUP; delete' EXIT
trap 'exit 143' TERM INT HUP
while true; do
  case "$(state)" in
    "") create || fail ;;
    ACTIVE)
      ship || { fail; continue; }
      run
      code=$?
      case "$code" in
        0 | 2) exit "$code" ;;
        124) echo "lm-0a1b-0: time is up"; exit 1 ;;
        75) echo "lm-0a1b-0: stopped with its state saved, starts again"; sleep 30 ;;
        *) sleep 30; [ "$(state)" != ACTIVE ] || fail ;;
      esac ;;
    SUSPENDED) echo "lm-0a1b-0: taken away, asks again"; delete ;;
    FAILED) delete; fail ;;
    *) sleep 30 ;;
  esac
done
