"""The counters and gauges of nodes, as Prometheus reads them."""

import json
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.parse

from lab import PORT as RING_PORT
from lab import Failed, address, timeouts, token_timeout

PORT = 9405
# What Grafana puts in place of them, with its usual scrape interval.
VARIABLES = {"$job": ".*", "$__rate_interval": "1m", "$__interval": "30s"}
DASHBOARD = pathlib.Path(__file__).parents[3] / "docs" / "grafana.json"

# Where Debian has the client library of Prometheus, for any Python.
sys.path.append("/usr/lib/python3/dist-packages")

# Gets a path from a node, and prints the status and the text.
GET = """
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=30)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status)
print(answer.read().decode(), end="")
"""

# Opens connections, says nothing, and waits.
IDLE = """
import socket, sys, time
connections = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for _ in range(40)]
print("open", flush=True)
time.sleep(60)
"""


def get(lab, host, path):
    return fetch(lab, host, f"http://{address(host)}:{PORT}{path}")


def fetch(lab, host, url):
    done = subprocess.run(lab.on(host, "python3", "-c", GET, url), capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{url}: {done.stderr}")
    status, _, text = done.stdout.partition("\n")
    return int(status), text


def read(lab, host):
    """Returns the values of a node by name and labels, as Prometheus's own library reads them."""
    from prometheus_client.parser import text_string_to_metric_families

    status, text = get(lab, host, "/metrics")
    if status != 200:
        raise Failed(f"/metrics of node {host}: {status} {text}")
    values = {}
    for family in text_string_to_metric_families(text):
        if not family.documentation or family.type not in ("counter", "gauge"):
            raise Failed(f"{family.name} is a {family.type} with the text `{family.documentation}`")
        for name, labels, value, *_ in family.samples:
            if labels.pop("node") != str(host):
                raise Failed(f"{name} of another node")
            values[name, *labels.values()] = value
    return values


def wait_for(lab, host, condition, what, patience=10):
    until = time.monotonic() + patience
    while not condition(values := read(lab, host)):
        if time.monotonic() > until:
            raise Failed(f"node {host} does not show {what}: {values}")
        time.sleep(0.2)
    return values


def prometheus_reads_what_nodes_count(lab, table):
    """Each node serves its counters and its health, whoever else is connected."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        return table.row("python3-prometheus-client is missing", "", False)
    for host in lab.hosts:
        lab.start_node(host, lab.conf, "--metrics", f"{address(host)}:{PORT}", "--metadata", f"zone=z{host}")
    lab.agreement(lab.hosts, patience=10 * token_timeout(3))
    # A rotation is measured from one look at the ring to the next.
    stands = lambda values: values["quorate_members",] == 3 and values["quorate_rotation_seconds",] > 0
    everyone = [wait_for(lab, host, stands, "three members") for host in lab.hosts]
    leases = [values["quorate_lease_left_seconds",] for values in everyone]
    table.row(f"one lease: {max(leases):.3f} s", "", sum(lease > 0 for lease in leases) == 1)
    table.row("one DC", "1", sum(values["quorate_is_dc",] for values in everyone) == 1)
    table.row("votes", "", all(values["quorate_votes",] == 3 for values in everyone))
    table.row("a rotation takes about the hold time", "", all(0 < v["quorate_rotation_seconds",] < 0.5 for v in everyone))
    table.row("rings by cause", "", all(v["quorate_ring_changes_total", "started"] > 0 for v in everyone))
    table.row("health", "200", get(lab, 1, "/health") == (200, "quorate\n"))
    if promtool := shutil.which("promtool"):
        text = get(lab, 1, "/metrics")[1]
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
        table.row(f"promtool check metrics: {done.stderr.strip() or 'nothing to say'}", "", done.returncode == 0)

    idle = lab.start(lab.on(1, "python3", "-c", IDLE, address(1), PORT), stdout=subprocess.PIPE, text=True)
    idle.stdout.readline()
    began = time.monotonic()
    status = lab.nodes[1].status("--json")
    table.time("status beside 40 idle connections", time.monotonic() - began, 2)
    table.row("it has what nodes tell", "", '"zone":"z2"' in status)
    began = time.monotonic()
    health, _ = get(lab, 1, "/health")
    table.time(f"health beside them: {health}", time.monotonic() - began, 25)
    idle.kill()

    for host in (2, 3):
        lab.nodes[host].kill()
    wait_for(lab, 1, lambda values: values["quorate_quorate",] == 0, "no quorum", timeouts(lab) + 5)
    health, text = get(lab, 1, "/health")
    table.row(f"health: {text.strip()}", "503", health == 503 and text.startswith("not quorate: "))


def every_panel_of_the_dashboard_has_data(lab, table):
    """A Prometheus reads three nodes, and answers what the panels ask."""
    if not shutil.which("prometheus"):
        return table.note("skipped: needs prometheus")
    for host in lab.hosts:
        lab.start_node(host, lab.conf, "--metrics", f"{address(host)}:{PORT}")
    lab.agreement(lab.hosts, patience=10 * token_timeout(3))
    targets = json.dumps([f"{address(host)}:{PORT}" for host in lab.hosts])
    scrape = f"{{job_name: quorate, static_configs: [{{targets: {targets}}}]}}"
    conf = lab.write("prometheus.yml", f"global: {{scrape_interval: 1s}}\nscrape_configs: [{scrape}]\n")
    own, store = "127.0.0.1:9090", lab.directory / "prometheus"
    with open(lab.directory / "prometheus.log", "w") as log:
        words = [f"--config.file={conf}", f"--storage.tsdb.path={store}", f"--web.listen-address={own}"]
        lab.start(lab.on(1, "prometheus", *words), stdout=log, stderr=log)

    def answer(query):
        for variable, value in VARIABLES.items():
            query = query.replace(variable, value)
        query = urllib.parse.urlencode({"query": query})
        try:
            found = json.loads(fetch(lab, 1, f"http://{own}/api/v1/query?{query}")[1])
        except (Failed, ValueError):
            return []
        # A 0 that stands for no data has no labels.
        return [one for one in found.get("data", {}).get("result", ()) if one["metric"]]

    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = {panel["title"]: target["expr"] for panel in panels for target in panel["targets"]}
    until = time.monotonic() + 30
    answers = {}
    while time.monotonic() < until and not (answers and all(answers.values())):
        time.sleep(1)
        answers = {title: answer(query) for title, query in asked.items()}
    for title, series in answers.items():
        values = ", ".join(one["value"][1] for one in series)
        table.row(f"{title}: {values}"[:44], "", bool(series))

    # The first one with this reason. Its counter has to have been there before.
    junk = f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'junk', ({address(1)!r}, {RING_PORT}))"
    subprocess.run(lab.on(2, "python3", "-c", junk), check=True)
    rejected = {}
    while time.monotonic() < until + 10 and rejected.get("truncated") != "1":
        time.sleep(1)
        rejected = {one["metric"]["reason"]: one["value"][1] for one in answer(asked["Datagrams rejected"])}
    table.row("the first datagram of 4 bytes", "1", rejected.get("truncated") == "1")


SCENARIOS = [(prometheus_reads_what_nodes_count, 3), (every_panel_of_the_dashboard_has_data, 3)]
