#!/bin/bash

# Parameters
#SBATCH --job-name=lm-0a1b
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/.cache/launch/lm-0a1b/%j_0_log.out
#SBATCH --requeue
#SBATCH --signal=USR2@90

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /.cache/launch/lm-0a1b/%j_%t_log.out --kill-on-bad-exit=1 /usr/bin/python3 -u -m submitit.core._submit /.cache/launch/lm-0a1b


# teardown
code=$?
if [ $code -eq 75 ] || { [ $code -ne 0 ] && [ $code -ne 2 ] && [ ${SLURM_RESTART_COUNT:-0} -lt 3 ]; }; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
