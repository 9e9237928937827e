"""What the lives have in common: how their steps are run, and the log of what runs in them."""

import os

import bulkhead as bh
from patience import Impatient

# Says hello, and at the end bye and 3.
SCRIPT = 'trap "echo bye; exit 3" TERM; echo hello; while :; do sleep 0.05; done'


class Steps:
    """STEPS in their order; the one called "a-b" is made by step_a_b, and before_a_b waits for what it needs."""

    STEPS = []

    def before(self, name):
        getattr(self, "before_" + name.replace("-", "_"), lambda: None)()

    def step(self, name):
        getattr(self, "step_" + name.replace("-", "_"))()

    def forget_image(self):
        """The image that its steps have made, if any, goes."""


class PlainLog:
    """A life whose SCRIPT writes to the file self.log."""

    def lines(self):
        if not os.path.exists(self.log):
            return []
        with open(self.log, errors="replace") as f:
            return f.read().splitlines()

    def says_hello(self):
        """Process 1 of a pid namespace doesn't see a signal that it has no handler for yet."""
        if not bh.wait_for(lambda: self.lines()[-1:] == ["hello"], 20):
            raise Impatient("its log has %r" % self.lines())
