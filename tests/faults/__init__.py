"""A test-bench of faults: whatever ends or hinders a command, nothing is lost.

    python -m faults [--seed SEED] [--moments MOMENTS] [--command NAME ...] [--fault NAME ...]

gives every command of `faults.commands` undisturbed; then with each fault of `faults.moments` at
many moments, which a seed decides, and once more undisturbed. It prints how many moments were tried
and how many of them lost something, and ends with 1 if any did; the folders of these are kept. The
code must not change meanwhile, not even by a commit: results say by what they were made. A loss is:

- a file that its own reader cannot read, after the fault or at last;
- an error without a message: a traceback, or another exit code than 0, 2 and 3;
- a file of another that has changed;
- a process, or a temporary file, that is left after the undisturbed run;
- a result that is not that of the command that nothing disturbed.
"""

import os

# Children are copies of this process; a copy of one that has threads of its own may wait for ever.
os.environ["OMP_NUM_THREADS"] = "1"
