"""The rows of the table: what each measures, and what it must come to.

A row is a function that takes the `Bench` and answers its measures. Everything is measured in pairs, one side right
after the other and the order changing from pair to pair, and told as the median of the pairs' ratios: what else goes on
on the machine shifts both of a pair alike.
"""

import os
import statistics
from dataclasses import asdict, dataclass, field
from functools import partial

from side import Side, attacks

# After a fan-out, until the next one: long enough for the server to come to rest.
GAP_MS = 20

# Longer than any side takes for a fan-out, and a heartbeat that no run lives to see.
UNREAD_MS = 150
LONG_S = 600


@dataclass
class Measure:
    name: str
    value: float
    # What it must not exceed, or not fall below; none where it is told for information.
    at_most: float | None = None
    at_least: float | None = None
    # "B" for bytes, "" for a count, which must be right however little was measured; else a ratio.
    unit: str = "x"

    @property
    def text(self):
        if self.unit == "B":
            return f"{self.value:,.0f} B"
        return f"{self.value:,.0f}" if self.unit == "" else f"{self.value:.2f}"

    @property
    def ok(self):
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    @property
    def target(self):
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return f">= {self.at_least:g}" if self.at_least is not None else ""

    def to_json(self):
        return {**asdict(self), "text": self.text, "target": self.target, "ok": self.ok}


@dataclass
class Bench:
    """What all rows share. Runs that several rows look at are made once."""

    server: str
    pairs: int
    history: str
    # Connections, publications, and the sizes that cost is followed over.
    connections: int = 10_000
    messages: int = 98
    sizes: tuple = (500, 2_000, 10_000, 19_500)
    rest_s: float = 1.0
    # What should not have happened, in any run since the row began.
    faults: list = field(default_factory=list)
    # What the row looked at, for who wants to look closer.
    raw: list = field(default_factory=list)
    _fan_outs: dict = field(default_factory=dict)

    def side(self, kind, cores=1, **more):
        """A side on one core with its load, or on two."""
        cpus = sorted(os.sched_getaffinity(0))
        more = {"history": self.history, "rest_s": self.rest_s} | more
        return Watched(self, kind, self.server, cpus[-cores:], **more)

    def each(self, first, second):
        """Measures in pairs: two functions, one after the other, in changing order; answers the pairs' figures."""
        pairs = []
        for number in range(self.pairs):
            if number % 2 == 0:
                pair = first(), second()
            else:
                pair = tuple(reversed((second(), first())))
            pairs.append(pair)
        self.raw += pairs
        return pairs

    def fan_outs(self, connections, **more):
        """Pairs of floor and server, of which several rows take their figures."""
        which = (connections, *sorted(more.items()))
        if which in self._fan_outs:
            self.raw += self._fan_outs[which]
        else:
            sides = [partial(fan_out, self, kind, connections, **more) for kind in ("floor", "server")]
            self._fan_outs[which] = self.each(*sides)
        return self._fan_outs[which]


class Watched(Side):
    """A side that tells its bench what went wrong."""

    def __init__(self, bench, kind, *more, **options):
        super().__init__(kind, *more, **options)
        self._bench = bench

    def end(self):
        super().end()
        if self.faults:
            self._bench.faults.append({self.kind: self.faults})


def ratio(pairs, figure, figure_of_first=None):
    """The second side's figure as a multiple of the first's, in the median of the pairs."""
    return statistics.median(second[figure] / first[figure_of_first or figure] for first, second in pairs)


def median(pairs, figure):
    """The second side's figure."""
    return statistics.median(second[figure] for _, second in pairs)


def fan_out(bench, kind, connections, transport="websocket", heartbeat_s=None, cores=1):
    """Opens connections, publishes to them one by one, and answers what each cost."""
    with bench.side(kind, cores, heartbeat_s=heartbeat_s) as side:
        side.warm_up(transport)
        empty = side.sample()
        opened = side.open(connections, transport=transport)
        idle = side.sample()
        side.publish(2)
        published = side.publish(bench.messages, gap_ms=GAP_MS)
        busy = side.sample()
    return {
        "kind": kind,
        "connections": connections,
        "handshake_us": opened["cpu_us"] / connections,
        # A heartbeat is a message as well, and costs the same.
        "delivery_us": published["cpu_us"] / (published["delivered"] + published["heartbeats"]),
        "system_part": published["system_us"] / published["cpu_us"],
        "first_us": published["first_us"],
        "p50_us": published["p50_us"],
        "p99_us": published["p99_us"],
        "last_us": published["last_us"],
        "idle_bytes": (idle["pss_bytes"] - empty["pss_bytes"]) / connections,
        "busy_bytes": (busy["pss_bytes"] - empty["pss_bytes"]) / connections,
    }


def delivery(bench):
    quiet = bench.fan_outs(bench.connections)
    beating = bench.fan_outs(bench.connections, heartbeat_s=1)
    return [
        Measure("CPU per delivery / floor", ratio(quiet, "delivery_us"), at_most=1.05),
        Measure("the same with a heartbeat each second", ratio(beating, "delivery_us"), at_most=1.05),
    ]


def memory(bench):
    pairs = bench.fan_outs(bench.connections)
    return [
        Measure("user memory per connection, idle", median(pairs, "idle_bytes"), at_most=1024, unit="B"),
        Measure("after 100 publications", median(pairs, "busy_bytes"), at_most=1024, unit="B"),
    ]


def handshake(bench):
    pairs = bench.fan_outs(bench.connections)
    return [Measure("CPU per handshake / floor", ratio(pairs, "handshake_us"), at_most=3.0)]


def two_cores(bench):
    """What a second core brings.

    Clients that read at once take the cores that they are to be served by: the floor leaves them one of the two, and
    has no use for more. So here nobody reads until all has been sent, and the kernel tells when it arrived.
    """

    def measure(kind):
        # A heartbeat that comes while nobody reads would be taken for the publication.
        with bench.side(kind, cores=2, heartbeat_s=LONG_S if kind == "server" else None) as side:
            side.open(bench.connections, stamped=True)
            side.publish(2)
            return side.publish(bench.messages // 2, unread_ms=UNREAD_MS, gap_ms=GAP_MS)

    pairs = bench.each(lambda: measure("floor"), lambda: measure("server"))
    reading = bench.fan_outs(bench.connections, cores=2)
    return [
        Measure("time to the last client / floor's", ratio(pairs, "last_us"), at_most=0.75),
        # A server that waits for more before it sends would look good above.
        Measure("time to the first client / floor's", ratio(pairs, "first_us")),
        Measure("time to the last client that reads on the same cores / floor's", ratio(reading, "last_us")),
    ]


def burst(bench):
    """Bursts of 20, and single publications with and without bursts before them."""
    rounds = max(bench.messages // 10, 2)

    def measure(kind):
        with bench.side(kind) as side:
            side.open(bench.connections)
            side.publish(2)
            figures = {}
            for name, size in [("alone", 1), ("burst", 20)]:
                before, singles = [], []
                for _ in range(rounds):
                    before.append(side.publish(size, burst=size, gap_ms=GAP_MS))
                    singles.append(side.publish(1, gap_ms=GAP_MS))
                figures[f"{name}_us"] = sum(it["cpu_us"] for it in before) / sum(it["delivered"] for it in before)
                for percentile in ["p50_us", "p99_us"]:
                    figures[f"single_{name}_{percentile}"] = statistics.median(it[percentile] for it in singles)
        return figures

    def delay(percentile):
        """How much longer the server's single ones take after bursts."""
        singles = (server for _, server in pairs)
        return statistics.median(it[f"single_burst_{percentile}"] / it[f"single_alone_{percentile}"] for it in singles)

    pairs = bench.each(lambda: measure("floor"), lambda: measure("server"))
    floors_own = statistics.median(floor["burst_us"] / floor["alone_us"] for floor, _ in pairs)
    return [
        Measure("CPU per delivery of a burst / floor's single", ratio(pairs, "burst_us", "alone_us"), at_most=0.15),
        Measure("floor's own in a burst / its single", floors_own),
        Measure("a single one's median after bursts / after singles", delay("p50_us"), at_most=1.1),
        Measure("its p99", delay("p99_us"), at_most=1.1),
        Measure("its median / floor's", ratio(pairs, "single_alone_p50_us")),
    ]


# As many handshakes as the kernel's queue of a listener holds (net.core.somaxconn): who is beyond it is not taken by
# any server, and comes back a second later.
AT_ONCE = 4000


def storm(bench):
    """All come at once, leave, and come again."""

    def measure(kind):
        with bench.side(kind) as side:
            first = side.open(bench.connections, in_flight=AT_ONCE)
            first_pss = side.sample()["pss_bytes"]
            side.close()
            side.sample()
            second = side.open(bench.connections, in_flight=AT_ONCE)
            second_pss = side.sample()["pss_bytes"]
        return {
            "rate": 2 * bench.connections / (first["took_seconds"] + second["took_seconds"]),
            "refused": 2 * bench.connections - first["opened"] - second["opened"],
            "growth": second_pss / first_pss,
        }

    pairs = bench.each(lambda: measure("floor"), lambda: measure("server"))
    return [
        Measure("handshakes per second / floor's", ratio(pairs, "rate"), at_least=0.5),
        Measure("refused", max(server["refused"] for _, server in pairs), at_most=0, unit=""),
        Measure("memory in the second round / the first", median(pairs, "growth"), at_most=1.02),
    ]


def resume(bench):
    """All come back at once, each with 20 publications to be caught up on; compared with all coming anew."""

    def measure(missed):
        with bench.side("server") as side:
            start = side.publish(1)
            side.publish(20, gap_ms=1)
            since = (start["position"], start["sequence"]) if missed else None
            opened = side.open(bench.connections, in_flight=AT_ONCE, since=since)
        return {"cpu_us": opened["cpu_us"], "seconds": opened["took_seconds"]}

    pairs = bench.each(lambda: measure(missed=False), lambda: measure(missed=True))
    return [
        Measure("CPU of resumes with 20 missed / of a plain storm", ratio(pairs, "cpu_us"), at_most=2),
        Measure("time until all have everything / all are open", ratio(pairs, "seconds")),
    ]


def scale(bench):
    sizes = {size: bench.fan_outs(size) for size in bench.sizes}
    measures = [
        Measure(f"CPU per delivery / floor at {size:,}", ratio(pairs, "delivery_us")) for size, pairs in sizes.items()
    ]
    growth = measures[-1].value / measures[0].value
    return [*measures, Measure("growth from the fewest to the most connections / floor's", growth, at_most=1.05)]


def regions(bench):
    """Clients with one of eight regions each, compared with all in one."""
    publications = max(bench.messages // 2, 8)

    def measure(count):
        with bench.side("server") as side:
            for region in range(count):
                side.open(bench.connections // count, region=region)
            side.publish(2 * count, regions=count)
            published = side.publish(publications * count, regions=count, gap_ms=GAP_MS // count)
        return {"delivery_us": published["cpu_us"] / published["delivered"]}

    pairs = bench.each(lambda: measure(1), lambda: measure(8))
    return [Measure("CPU per delivery, 8 regions / one", ratio(pairs, "delivery_us"), at_most=1.1)]


def stalled(bench):
    """One client in a hundred never reads."""
    few = bench.connections // 100

    def measure(with_stalled):
        with bench.side("server") as side:
            side.open(bench.connections - few)
            if with_stalled:
                side.open(few, stalled=True)
            # More than the kernel holds for one that does not read.
            side.publish(100, burst=20, gap_ms=GAP_MS)
            published = side.publish(bench.messages // 2, gap_ms=GAP_MS)
            full = side.sample()
            side.publish(400, burst=20, gap_ms=GAP_MS)
            later = side.sample()
        return {"p99_us": published["p99_us"], "growth_bytes": later["pss_bytes"] - full["pss_bytes"]}

    pairs = bench.each(lambda: measure(False), lambda: measure(True))
    growth = statistics.median((second["growth_bytes"] - first["growth_bytes"]) / few for first, second in pairs)
    return [
        Measure("others' p99 / with none stalled", ratio(pairs, "p99_us"), at_most=1.1),
        Measure("memory that 400 publications add per stalled client", growth, at_most=4096, unit="B"),
    ]


def sse(bench):
    pairs = bench.fan_outs(bench.connections, transport="sse")
    return [
        Measure("CPU per delivery / floor", ratio(pairs, "delivery_us"), at_most=1.3),
        Measure("user memory per connection, idle", median(pairs, "idle_bytes"), at_most=4096, unit="B"),
        Measure("after 100 publications", median(pairs, "busy_bytes"), at_most=4096, unit="B"),
    ]


def hostile(bench):
    """While attackers do their worst, the latency of 1,000 clients beside that of the same clients in calm."""
    # So many that a single one which something else held up is not the hundredth part.
    clients, publications = bench.connections // 10, bench.messages * 3 // 2

    def publish(side):
        return side.publish(publications, gap_ms=GAP_MS // 4)["permilles_of_all_us"]

    def calm(side):
        side.sample()
        return {"permilles_us": publish(side)}

    def under(attack, side):
        with side.attacked(attack) as told:
            permilles = publish(side)
        return {"attack": attack, "permilles_us": permilles, **told}

    def p99(phases):
        """Of several phases as one."""
        return sorted(sum((phase["permilles_us"] for phase in phases), []))[-10 * len(phases)]

    phases = {}
    with bench.side("server", cores=2) as side:
        side.open(clients)
        side.publish(2)
        for attack in attacks():
            phases[attack] = bench.each(partial(calm, side), partial(under, attack, side))
            if not all(attacked["connections"] for _, attacked in phases[attack]):
                side.faults.append(f"{attack} did nothing")
        side.sample()
    # All phases as one: the 99th percentile of a single one is that of its worst publication or two.
    in_calm = p99([calm for pairs in phases.values() for calm, _ in pairs])
    attacked = {attack: p99([it for _, it in pairs]) for attack, pairs in phases.items()}
    bench.raw = [{"in_calm_us": in_calm, **attacked}]
    measures = [Measure(f"p99 under {attack} / in calm", late / in_calm, at_most=2) for attack, late in attacked.items()]
    return [*measures, Measure("the worst of them", max(measure.value for measure in measures), at_most=2)]


def metrics(bench):
    """What the server counted, less what the clients did."""
    count = bench.connections // 10
    with bench.side("server", history="sqlite") as side:
        opened = {"websocket": 2 * count, "sse": count}
        for transport, clients in opened.items():
            side.open(clients, transport=transport)
        start = side.publish(10)
        delivered = start["delivered"] + side.publish(40, burst=20)["delivered"]
        side.open(count, since=(start["position"], start["sequence"]))
        opened["websocket"] += count
        delivered += 40 * count + side.publish(1)["delivered"]
        side.sample()
        while_open = side.metrics()
        side.close()
        side.sample()
        after = side.metrics()
    off = 0
    for transport, clients in opened.items():
        name = f'notifier_connections{{transport="{transport}"}}'
        off += abs(while_open[name] - clients) + after[name]
    bench.raw += [while_open, after]
    return [
        Measure("deliveries off by", abs(while_open["notifier_deliveries_total"] - delivered), at_most=0, unit=""),
        Measure("connections off by", off, at_most=0, unit=""),
    ]


ROWS = {
    row.__name__: row
    for row in [
        delivery, memory, handshake, two_cores, burst, storm, resume, scale, regions, stalled, hostile, sse, metrics
    ]
}
