"""`python -m deployments.cli`.

Above it: a person at a terminal. Below it: `deployments.cli`.
"""

from deployments.cli import main

main()
