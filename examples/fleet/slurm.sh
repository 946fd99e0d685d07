#!/bin/bash
# A fleet on SLURM: a worker on each node, and scheduler and coordinator on the first one.
#
#   sbatch --export=APIVIDEO_API_KEY,ALL slurm.sh catalogue.csv results.jsonl
#
# Set the variables for TLS of docs/fleet.md, too: other users of the cluster can reach the scheduler. The same job
# again continues; with --requeue, SLURM does that if a node fails.
#SBATCH --job-name=fleet
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=2G
#SBATCH --time=2-00:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

catalogue=$1
results=$2
directory=$(mktemp --directory --tmpdir="$PWD" fleet.XXXXXX)
file=$directory/scheduler.json

stop() {
    kill $(jobs -p) 2>/dev/null || true
    wait
    rm -r "$directory"
}
trap stop EXIT

dask scheduler --protocol tls --port 0 --no-dashboard --scheduler-file "$file" &
until [ -s "$file" ]; do
    kill -0 $! || exit 1
    sleep 0.2
done
srun --kill-on-bad-exit=0 dask worker --scheduler-file "$file" --nthreads 8 --no-dashboard --death-timeout 60 &

address=$(sed -n 's/.*"address": "\([^"]*\)".*/\1/p' "$file" | head -n 1)
async-uploader fleet --manifest "$catalogue" --results "$results" --scheduler "$address"
