"""Submit a verb to a cluster by Ray's job API, attach to it, and follow it to the run's exit code.

    package.py     what travels with a job: files, variables, and what is refused because it does not travel
    submission.py  prepare a submission from the command's arguments, and send it
    identity.py    the submission id, from the run's name and content, and which attempt it is
    job.py         how a job ended, as an exit code of the run
    seen_log.py    the part of a log that a follower has not printed yet
    server.py      the job server: requests, and what their errors mean
    following.py   follow a job's log to its end, across lost connections

A second submission of the same verb, config and settings files attaches to the job while it waits or runs. After its
end it is a new attempt, which does what is missing, as the same command does on one machine.

Not covered: installing packages on the cluster. It must have this package and what `requirements/` locks.
"""
