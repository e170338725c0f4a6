"""Two sites: a town on fibre, a village behind a satellite whose two directions differ, and a backup between.

    fedcell run experiments/configs/smoke.yaml \
        network.topology=experiments/topologies/two_sites.py:two_sites network.routing=hops \
        'network.devices=[{count: 4}]'

By delay (network.routing=delay) the village's way is the backup link over the town; by hops the satellite.
"""

from mininet.link import TCLink
from mininet.topo import Topo


class TwoSites(Topo):
    """dev0 and dev1 in the town, dev2 and dev3 in the village."""

    def build(self) -> None:
        core, town, village = (self.addSwitch(name) for name in ("core", "town", "village"))
        self.addLink(self.addHost("server"), core)
        self.addLink(town, core, cls=TCLink, bw=100, delay="2ms")
        # TCLink's params1 holds for what the first node sends, params2 for the second's.
        self.addLink(
            village,
            core,
            cls=TCLink,
            delay="270ms",
            params1={"bw": 5, "loss": 0.5},
            params2={"bw": 25},
        )
        self.addLink(village, town, cls=TCLink, bw=2, delay="30ms", jitter="3ms", max_queue_size=50)
        for number, site in enumerate((town, town, village, village)):
            self.addLink(self.addHost(f"dev{number}"), site, cls=TCLink, bw=50, delay="1ms")


topos = {"two_sites": TwoSites}
