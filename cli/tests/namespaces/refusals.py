"""Starts that cannot work, and nodes whose identity is taken."""

import ipaddress
import json
import re
import subprocess
import time

from lab import address, corosync_conf, node_list, timeouts


def what_cannot_work_ends_in_one_line_that_says_what_to_do(lab, table):
    good = lab.conf.read_text()
    lab.start_node(2)

    def ends(what, advice, conf, *flags, **where):
        conf = lab.write("refused.conf", conf) if isinstance(conf, str) else conf
        ends_with_advice(lab, table, what, advice, conf, *flags, **where)

    def with_timeouts(lines):
        return good.replace("token: 1000", lines)

    ends("misspelt value", r"conf:5: totem\.token must be a whole number", with_timeouts("token: 1 s"))
    ends("brace left out", r"conf:\d+: .*close that section with `}` first", good.replace("}\nquorum", "\nquorum"))
    ends(
        "values that disagree",
        r"consensus \(90 ms\) must .* totem\.join \(100 ms\)",
        with_timeouts("join: 100\n  consensus: 90"),
    )
    ends("not in the list", "add a node .* --name", corosync_conf(nodelist=node_list({2: 2})))
    ends("no such interface", "no interface .*bindnetaddr.* 10.77.0.1", corosync_conf(network="10.99.0.0"))
    ends("no such file", "cannot be read .* -c FILE", lab.directory / "absent.conf")
    ends("a directory", "cannot be read .* -c FILE", lab.directory)
    secret = lab.write("secret.conf", good)
    secret.chmod(0o600)
    ends("unreadable file", "let this user read it", secret, user="nobody")
    ends("port in use", "UDP port 5405 .* stop the other node .* mcastport", lab.conf, host=2)
    ends(
        "socket in use",
        "stop it, or name another path with --socket",
        lab.conf,
        "--socket",
        lab.nodes[2].socket,
    )


def what_people_write_is_understood_or_named_with_its_line(lab, table):
    """Spellings from public files.

    A refused one ends with exit code 1. The rest causes a warning or has its meaning in corosync.
    """

    def conf(name="lab", totem="", quorum="", behind="", nodes=""):
        return (
            f"totem {{\n  version: 2\n  transport: udp\n  cluster_name: {name}\n  crypto_cipher: none\n{totem}}}\n"
            f"quorum {{\n  provider: corosync_votequorum\n{quorum}}}\n"
            f"nodelist {{\n  node {{\n    ring0_addr: {address(1)}{behind}\n    nodeid: 1\n  }}\n{nodes}}}\n"
        )

    def node(lines):
        return "  node {\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"

    def says(what, text, words, code=1):
        path = lab.directory / "spelt.conf"
        path.write_bytes(text.encode())
        done = lab.run("config", "show", "--effective", "-c", path, host=1)
        said = done.stdout + done.stderr
        table.row(f"{what}: exit code {done.returncode}", f"{code}", done.returncode == code and bool(re.search(words, said)))
        if not re.search(words, said):
            table.note(said)

    comment = "a comment needs a line of its own"
    says("comment behind a name", conf("lab # x"), rf"spelt.conf:4: totem.cluster_name is `lab # x`: {comment}", 0)
    says("comment behind a number", conf(totem="  token: 5000 # ms\n"), rf":6: totem.token is `5000 # ms`; {comment}")
    says("comment behind an address", conf(behind=" # first"), rf":12: nodelist.node.ring0_addr is .*; {comment}")
    says("no-break space behind it", conf(behind="\u00a0"), r":12: .*an invisible character; retype the value")
    says("no-break space before a key", conf(totem="\u00a0 token: 1\n"), r":6: .*names of keys and sections consist of")
    says("byte order mark", "\ufeff" + conf(), r":1: .*byte order mark; save it as UTF-8 without one")
    says("CR", conf(behind="\r"), rf"nodelist.node.0.ring0_addr +{address(1)} ", 0)
    says("brace on the next line", "totem\n{\n  version: 2\n}\n", r":1: .*move the next line's `{` up")
    for value in ("5s", "1e3", "-1"):
        says(f"token: {value}", conf(totem=f"  token: {value}\n"), rf":6: .*a whole number from 0 .* not `{value}`")
    says("key in capitals", conf(totem="  Token: 5000\n"), r":6: totem.Token: unknown, ignored; did you mean `token`\?", 0)
    says("key twice", conf(totem="  token: 5000\n  token: 1000\n"), r":6: .*is set again at line 7, which takes precedence", 0)
    for key, value in (("two_node", "yes"), ("two_node", "true"), ("wait_for_all", "no")):
        says(f"{key}: {value}", conf(quorum=f"  {key}: {value}\n"), r":9: .*must be 1 for yes or 0 for no")
    says("no vote expected", conf(quorum="  expected_votes: 0\n"), r":9: .*a whole number from 1 ")
    twice = node([f"ring0_addr: {address(1)}", "nodeid: 2"])
    says("an address twice", conf(nodes=twice), rf":15: the address {address(1)} appears twice, first at .*:11; give")
    zero = node(["ring0_addr: 10.77.0.02", "nodeid: 2"])
    says("a leading zero", conf(nodes=zero), r":16: .*a leading 0 makes a number octal; write 10\.77\.0\.2", 0)
    second = node([f"ring0_addr: {address(2)}", "ring1_addr: 10.0.0.2", "nodeid: 2"])
    says("ring1_addr", conf(nodes=second), r":17: nodelist.node.ring1_addr: ignored: there is only one ring", 0)
    named = [node([f"ring0_addr: {address(host)}", f"nodeid: {host}", "name: n1"]) for host in (2, 3)]
    says("a name twice", conf(nodes="".join(named)), r":20: the name `n1` appears twice, first at .*:15; give", 0)
    hexadecimal = node([f"ring0_addr: {address(2)}", "nodeid: 0x2"])
    says("nodeid: 0x2", conf(nodes=hexadecimal), r":17: nodelist.node.nodeid must be a whole number from 1")


def a_newcomer_whose_listed_id_is_taken_stays_out(lab, table):
    """Its node list puts node 2 on its own host. Those of the ring put it on host 2.

    Neither list is known to be wrong, so no node leaves. The newcomer is in no ring with the
    others, and both sides name it.
    """
    lab.start_node(1)
    lab.start_node(2)
    lab.agreement([1, 2], patience=timeouts(lab))
    rings = [len(lab.nodes[host].rings) for host in (1, 2)]
    lab.start_node(3, lab.write("other.conf", corosync_conf(nodelist=node_list({1: 1, 3: 2}))))
    time.sleep(timeouts(lab))
    changes = sum(len(lab.nodes[host].rings) for host in (1, 2)) - sum(rings)
    table.row(f"{changes} ring changes by the newcomer", "0", changes == 0)
    lab.agreement([1, 2], patience=timeouts(lab))
    for host, text in ((1, "the id of node 2 is used at an address other than"), (3, "another process uses this node's id, 2")):
        notices = [notice["text"] for notice in json.loads(lab.nodes[host].status("--json"))["notices"]]
        table.row(f"named by host {host}", "", any(notice.startswith(text) for notice in notices))
        table.note("\n".join(notices))


def a_newcomer_whose_generated_id_is_taken_gives_up(lab, table):
    """There are no node lists. Two addresses differ only in the bit that is cleared for ids."""
    ids = [int(ipaddress.IPv4Address(address(host))) for host in (1, 2)]
    without_list = {"totem": "  clear_node_high_bit: yes\n", "nodelist": ""}
    conf = lab.write("no-list.conf", corosync_conf(**without_list))
    for host in (1, 2):
        lab.start_node(host, conf, "--expected-votes", "2")
    lab.agreement([1, 2], ids=ids, patience=timeouts(lab))
    subprocess.run(lab.on(3, "ip", "address", "add", "138.77.0.2/24", "dev", "e0"), check=True)
    conf = lab.write("other.conf", corosync_conf(**without_list, network="138.77.0.0"))
    ends_with_advice(lab, table, "the same address", f"id {ids[1]}.* an id of its own", conf, host=3)
    lab.agreement([1, 2], ids=ids, patience=timeouts(lab))


def ends_with_advice(lab, table, what, advice, conf, *flags, host=1, user=None):
    """Checks that a node ends by itself, and that one final line says what to do."""
    if "--socket" not in flags:
        flags += ("--socket", lab.directory / "refused.sock")
    done = lab.run(
        "node", "-c", conf, "--state-dir", lab.directory / "state-refused", *flags, host=host, user=user
    )
    *log, last = done.stderr.splitlines() or [""]
    told = last.startswith("quorate: ") and not any(line.startswith("quorate: ") for line in log)
    table.row(
        f"{what}: exit code {done.returncode}", "1", done.returncode == 1 and told and re.search(advice, last)
    )
    table.note(last)


SCENARIOS = [
    (what_cannot_work_ends_in_one_line_that_says_what_to_do, 2),
    (what_people_write_is_understood_or_named_with_its_line, 1),
    (a_newcomer_whose_listed_id_is_taken_stays_out, 3),
    (a_newcomer_whose_generated_id_is_taken_gives_up, 3),
]
