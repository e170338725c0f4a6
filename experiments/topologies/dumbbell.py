"""A dumbbell: devices on fast wires share one narrow link to the server, as behind one office's uplink.

    fedcell run experiments/configs/smoke.yaml \
        network.topology=experiments/topologies/dumbbell.py:dumbbell,4 'network.devices=[{count: 4}]'

It is a Mininet file like any other: `mn --custom dumbbell.py --topo dumbbell,4 --link tc` takes it too.
"""

from mininet.topo import Topo


class Dumbbell(Topo):
    """`devices` hosts at s1; s1 and s2 joined by the narrow link; the server at s2."""

    def build(self, devices: int = 2, bw: float = 20, delay: str = "10ms") -> None:
        office, core = self.addSwitch("s1"), self.addSwitch("s2")
        self.addLink(self.addHost("server"), core)
        self.addLink(office, core, bw=bw, delay=delay, max_queue_size=250)
        for number in range(devices):
            self.addLink(self.addHost(f"dev{number}"), office)


topos = {"dumbbell": Dumbbell}
