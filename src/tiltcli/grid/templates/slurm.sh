#!/usr/bin/env bash
# @JOBS@, as an array of @SHARDS@ tasks on Slurm that share one run directory:
#
#   sbatch job.sh                  submit; again, after an end of any kind, to do what is missing
#   sbatch job.sh --retry-failed   words after the script go to tiltcli sweep
#   @RUNS@ jobs done, failed, missing; while tasks run, too
#   scancel ID                     ends the array cleanly; finished jobs are kept
#
# The grid's folder must be the same on all nodes, and this Python installation too. Tasks may run
# at any time and in any order; what one of them has finished is never done again. Of the jobs under
# way when a task ends, those that torch trains go on from a checkpoint (unless they are probed), the
# others begin anew: for these keep --time well above the length of one job.
# Exit codes: 0 all done; 1 some jobs failed, the others are done; 2 nothing could be run, the log
# says why. A task that is short of time ends cleanly and goes back to the queue.

#SBATCH --job-name=@NAME@
#SBATCH --array=1-@SHARDS@
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=@CPUS@
#SBATCH --mem=@MEMORY@
#SBATCH --time=@TIME@
@PARTITION@# A lost node, or preemption, sends the task back to the queue; its log goes on where it was.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
# SIGTERM @NOTICE@ s before the time is over, to this script (B:) and not to what it has started.
#SBATCH --signal=B:TERM@@NOTICE@

tiltcli=(@TILTCLI@)
most_requeues=@REQUEUES@  # a job longer than --time would be begun for ever

cd @FOLDER@ || exit 2
me=$SLURM_JOB_ID
sweep='' short_of_time=''

on_term() {
  # Only if nobody wants the task ended: scancel, requeue and preemption change its state first,
  # and signal what it has started as well, which takes a second signal as an order to quit.
  local state
  state=$(squeue --noheader --jobs="$me" --format=%T) || state=UNKNOWN
  case $state in
    RUNNING) short_of_time=yes ;;
    UNKNOWN) ;;
    *) return ;;
  esac
  [ -z "$sweep" ] || kill -TERM "$sweep" 2> /dev/null
}
trap on_term TERM

# In the background: the shell heeds a signal only while it waits.
"${tiltcli[@]}" sweep @GRID@ --results @RESULTS@ \
  --shard "$SLURM_ARRAY_TASK_ID/@SHARDS@" --workers "${SLURM_CPUS_PER_TASK:-1}" "$@" &
sweep=$!
[ -z "$short_of_time" ] || kill -TERM "$sweep" 2> /dev/null
# A signal ends a wait before the sweep has ended; of one that has, wait gives the code again.
while kill -0 "$sweep" 2> /dev/null; do wait "$sweep"; done
wait "$sweep"
code=$?

if [ -n "$short_of_time" ] && [ "$code" -ge 128 ]; then
  requeue=$((${SLURM_RESTART_COUNT:-0} + 1))
  if [ "$requeue" -le "$most_requeues" ]; then
    trap '' TERM
    echo "short of time: back to the queue ($requeue of at most $most_requeues times)" >&2
    scontrol requeue "$me" && exit 0
  fi
  echo "not requeued: sbatch this script again to go on" >&2
fi
exit "$code"
