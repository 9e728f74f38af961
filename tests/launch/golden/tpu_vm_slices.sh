#!/usr/bin/env bash
# lm-0a1b-0: 2 x v5e:8x8, the code of revision 0000000000000000000000000000000000000000
# variables, from .cache/launch/lm-0a1b-0.env: LIBTPU_INIT_ARGS
set -uo pipefail

create() {
  gcloud compute tpus queued-resources create lm-0a1b-0 --project=lab --zone=us-west4-a --accelerator-type=v5litepod-64 --node-count=2 --runtime-version=v2-alpha-tpuv5-lite --reserved --service-account=runner@lab.iam.gserviceaccount.com
}
state() {
  gcloud compute tpus queued-resources list --project=lab --zone=us-west4-a '--filter=name~/lm-0a1b-0$' '--format=value(state.state)' || echo UNKNOWN
}
ship() {
  git archive --format=tar.gz --output=.cache/launch/lm-0a1b-0.tar.gz 0000000000000000000000000000000000000000 &&
    gcloud compute tpus queued-resources scp .cache/launch/lm-0a1b-0.tar.gz .cache/launch/lm-0a1b-0.env lm-0a1b-0: --project=lab --zone=us-west4-a --node=all --worker=all --batch-size=all &&
    gcloud compute tpus queued-resources ssh lm-0a1b-0 --project=lab --zone=us-west4-a --node=all --worker=all --batch-size=all '--command=set -e; test -d isoflop-000000000000 && exit 0; mkdir -p isoflop-000000000000.new; tar -xzf lm-0a1b-0.tar.gz -C isoflop-000000000000.new; cd isoflop-000000000000.new; python3 -m pip install --quiet --user uv; ~/.local/bin/uv venv --quiet --clear --relocatable --python 3.12; ~/.local/bin/uv pip install --quiet -r requirements.txt -r requirements-pods.txt; mv ../isoflop-000000000000.new ../isoflop-000000000000'
}
run() {
  gcloud compute tpus queued-resources ssh lm-0a1b-0 --project=lab --zone=us-west4-a --node=all --worker=all --batch-size=all '--command=cd isoflop-000000000000 && . ../lm-0a1b-0.env && rm ../lm-0a1b-0.env && ISOFLOP_REVISION=0000000000000000000000000000000000000000 ISOFLOP_DIRTY=false flock ../isoflop.lock timeout --kill-after=300 43200 .venv/bin/python -m launch.run --config experiments/lm.py --workdir gs://bucket/runs --processes 32 --config.model.depth=6 --group text-size64-trunk'
}
delete() {
  gcloud compute tpus queued-resources delete lm-0a1b-0 --project=lab --zone=us-west4-a --force --quiet
}

failures=0
fail() {
  failures=$((failures + 1))
  echo "lm-0a1b-0: failure $failures, may start again 5 times"
  [ "$failures" -le 5 ] || exit 1
  sleep 30
}

trap 'trap "" TERM INT HUP; rm -f .cache/launch/lm-0a1b-0.env; delete' EXIT
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

#!/usr/bin/env bash
# lm-0a1b-1: 2 x v5e:8x8, the code of revision 0000000000000000000000000000000000000000
# variables, from .cache/launch/lm-0a1b-1.env: LIBTPU_INIT_ARGS
set -uo pipefail

create() {
  gcloud compute tpus queued-resources create lm-0a1b-1 --project=lab --zone=us-west4-a --accelerator-type=v5litepod-64 --node-count=2 --runtime-version=v2-alpha-tpuv5-lite --reserved --service-account=runner@lab.iam.gserviceaccount.com
}
state() {
  gcloud compute tpus queued-resources list --project=lab --zone=us-west4-a '--filter=name~/lm-0a1b-1$' '--format=value(state.state)' || echo UNKNOWN
}
ship() {
  git archive --format=tar.gz --output=.cache/launch/lm-0a1b-1.tar.gz 0000000000000000000000000000000000000000 &&
    gcloud compute tpus queued-resources scp .cache/launch/lm-0a1b-1.tar.gz .cache/launch/lm-0a1b-1.env lm-0a1b-1: --project=lab --zone=us-west4-a --node=all --worker=all --batch-size=all &&
    gcloud compute tpus queued-resources ssh lm-0a1b-1 --project=lab --zone=us-west4-a --node=all --worker=all --batch-size=all '--command=set -e; test -d isoflop-000000000000 && exit 0; mkdir -p isoflop-000000000000.new; tar -xzf lm-0a1b-1.tar.gz -C isoflop-000000000000.new; cd isoflop-000000000000.new; python3 -m pip install --quiet --user uv; ~/.local/bin/uv venv --quiet --clear --relocatable --python 3.12; ~/.local/bin/uv pip install --quiet -r requirements.txt -r requirements-pods.txt; mv ../isoflop-000000000000.new ../isoflop-000000000000'
}
run() {
  gcloud compute tpus queued-resources ssh lm-0a1b-1 --project=lab --zone=us-west4-a --node=all --worker=all --batch-size=all '--command=cd isoflop-000000000000 && . ../lm-0a1b-1.env && rm ../lm-0a1b-1.env && ISOFLOP_REVISION=0000000000000000000000000000000000000000 ISOFLOP_DIRTY=false flock ../isoflop.lock timeout --kill-after=300 43200 .venv/bin/python -m launch.run --config experiments/lm.py --workdir gs://bucket/runs --processes 32 --config.model.depth=6 --group text-size96-trunk'
}
delete() {
  gcloud compute tpus queued-resources delete lm-0a1b-1 --project=lab --zone=us-west4-a --force --quiet
}

failures=0
fail() {
  failures=$((failures + 1))
  echo "lm-0a1b-1: failure $failures, may start again 5 times"
  [ "$failures" -le 5 ] || exit 1
  sleep 30
}

trap 'trap "" TERM INT HUP; rm -f .cache/launch/lm-0a1b-1.env; delete' EXIT
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
        124) echo "lm-0a1b-1: time is up"; exit 1 ;;
        75) echo "lm-0a1b-1: stopped with its state saved, starts again"; sleep 30 ;;
        *) sleep 30; [ "$(state)" != ACTIVE ] || fail ;;
      esac ;;
    SUSPENDED) echo "lm-0a1b-1: taken away, asks again"; delete ;;
    FAILED) delete; fail ;;
    *) sleep 30 ;;
  esac
done
