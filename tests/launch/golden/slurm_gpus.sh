#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --array=0-1%2
#SBATCH --cpus-per-task=16
#SBATCH --export=ALL,LIBTPU_INIT_ARGS
#SBATCH --gpus-per-node=8
#SBATCH --job-name=lm-0a1b
#SBATCH --mem=200GB
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/.cache/launch/lm-0a1b/%A_%a_0_log.out
#SBATCH --partition=gpu
#SBATCH --qos=long
#SBATCH --requeue
#SBATCH --signal=USR2@300
#SBATCH --time=720

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /.cache/launch/lm-0a1b/%A_%a_%t_log.out --kill-on-bad-exit=1 /usr/bin/python3 -u -m submitit.core._submit /.cache/launch/lm-0a1b


# teardown
code=$?
if [ $code -eq 75 ] || { [ $code -ne 0 ] && [ $code -ne 2 ] && [ ${SLURM_RESTART_COUNT:-0} -lt 5 ]; }; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit $code
