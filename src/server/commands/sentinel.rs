//! SENTINEL: for clients that are configured to ask a Sentinel where the master is.
//!
//! Every node of rondo takes reads and writes, so the master, whatever name it is asked for by, is the node that is
//! asked: it is alive, since it answers. The other nodes are its replicas and the other Sentinels. Nothing can be
//! changed through this command.
//!
//! Any name is known to whoever asks by name; SENTINEL MASTERS, which does not say a name, lists those of the option
//! `sentinel-master-names`.

use crate::commands::spec::Command;
use crate::commands::{CommandError, subcommands};
use crate::protocol::{Args, Reply};
use crate::server::state::snapshot::Node;

/// The nodes, the one that is asked apart.
#[derive(Clone, Copy, Debug)]
pub struct Nodes<'a> {
    /// The node that is asked.
    pub this: &'a Node,
    /// All others.
    pub others: &'a [Node],
    /// What SENTINEL MASTERS calls the master: names, separated by white space or commas.
    pub names: &'a str,
}

impl Nodes<'_> {
    fn quorum(&self) -> usize {
        let all = 1 + self.others.len();
        all / 2 + 1
    }

    fn alive(&self) -> usize {
        1 + self.others.iter().filter(|node| node.serving).count()
    }
}

/// Runs SENTINEL.
pub fn run(row: &'static Command, args: Args<'_>, nodes: Nodes<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    let name = args.get(2).unwrap_or_default();
    match subcommands::short_name(subcommands::checked(row, args)?) {
        "get-master-addr-by-name" => {
            out.array(2);
            out.bulk(nodes.this.host.as_bytes());
            out.bulk(nodes.this.port.to_string().as_bytes());
        }
        "masters" => {
            let is_between = |c: char| c.is_whitespace() || c == ',';
            let names: Vec<&str> = nodes.names.split(is_between).filter(|name| !name.is_empty()).collect();
            out.array(names.len());
            names.iter().for_each(|name| write_master(out, name.as_bytes(), nodes));
        }
        "master" => write_master(out, name, nodes),
        "replicas" | "slaves" => write_others(out, nodes, "slave"),
        "sentinels" => write_others(out, nodes, "sentinel"),
        "myid" => out.bulk(nodes.this.id.to_string().as_bytes()),
        "ckquorum" => {
            let (alive, quorum) = (nodes.alive(), nodes.quorum());
            if alive < quorum {
                let text = format!(
                    "NOQUORUM {alive} usable Sentinels. Not enough available Sentinels to reach the specified quorum for this master"
                );
                return Err(CommandError::said(text));
            }
            out.simple(&format!("OK {alive} usable Sentinels. Quorum and failover authorization can be reached"));
        }
        _ => subcommands::help(out, row.name),
    }
    Ok(())
}

fn write_master(out: &mut Reply<'_>, name: &[u8], nodes: Nodes<'_>) {
    let others = nodes.others.len().to_string();
    let more = [
        ("role-reported", "master"),
        ("config-epoch", "0"),
        ("num-slaves", &others),
        ("num-other-sentinels", &others),
        ("quorum", &nodes.quorum().to_string()),
    ];
    write_node(out, name, nodes.this, "master", &more);
}

fn write_others(out: &mut Reply<'_>, nodes: Nodes<'_>, role: &str) {
    out.array(nodes.others.len());
    for node in nodes.others {
        let flags = if node.serving { role.to_owned() } else { format!("s_down,{role}") };
        let name = format!("{}:{}", node.host, node.port);
        let of_role: &[(&str, &str)] = match role {
            "slave" => &[("role-reported", "slave"), ("master-link-status", "ok"), ("slave-priority", "100")],
            _ => &[],
        };
        write_node(out, name.as_bytes(), node, &flags, of_role);
    }
}

fn write_node(out: &mut Reply<'_>, name: &[u8], node: &Node, flags: &str, more: &[(&str, &str)]) {
    let (port, id) = (node.port.to_string(), node.id.to_string());
    let fields = [("ip", node.host.as_str()), ("port", &port), ("runid", &id), ("flags", flags)];
    out.map(1 + fields.len() + more.len());
    out.bulk(b"name");
    out.bulk(name);
    for (field, value) in fields.iter().chain(more) {
        out.bulk(field.as_bytes());
        out.bulk(value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;
    use crate::commands::table;
    use crate::protocol::{Limits, Proto, Scanner};

    fn ask(line: &str, proto: Proto, alive: bool) -> String {
        let node =
            |port: u16, alive: bool| Node { id: NodeId::random(), host: "10.0.0.1".into(), port, serving: alive };
        let (this, others) = (node(1, true), [node(2, alive), node(3, alive)]);
        let buf = format!("{line}\r\n");
        let mut scanner = Scanner::new();
        scanner.scan(buf.as_bytes(), &Limits::default()).expect("a request");
        let (_, row) = table::find(b"sentinel").expect("a row");
        let mut reply = Vec::new();
        let nodes = Nodes { this: &this, others: &others, names: "mymaster, sessions" };
        if let Err(error) = run(row, scanner.args(buf.as_bytes()), nodes, &mut Reply::new(&mut reply, proto)) {
            Reply::new(&mut reply, proto).error(error.bytes());
        }
        String::from_utf8(reply).expect("text")
    }

    #[test]
    fn whoever_is_asked_is_the_master_of_every_name() {
        let address = ask("SENTINEL get-master-addr-by-name mymaster", Proto::Resp2, true);
        assert_eq!(address, "*2\r\n$8\r\n10.0.0.1\r\n$1\r\n1\r\n");
        let master = ask("SENTINEL MASTER mymaster", Proto::Resp3, true);
        assert!(master.starts_with("%10\r\n$4\r\nname\r\n$8\r\nmymaster\r\n$2\r\nip\r\n$8\r\n10.0.0.1\r\n"));
        assert!(master.contains("$10\r\nnum-slaves\r\n$1\r\n2\r\n") && master.contains("$6\r\nquorum\r\n$1\r\n2\r\n"));
        let masters = ask("SENTINEL MASTERS", Proto::Resp2, true);
        assert!(masters.starts_with("*2\r\n*20\r\n$4\r\nname\r\n$8\r\nmymaster\r\n"));
        assert!(masters.contains("$4\r\nname\r\n$8\r\nsessions\r\n"));
    }

    #[test]
    fn dead_nodes_are_flagged_and_count_for_no_quorum() {
        assert_eq!(ask("SENTINEL REPLICAS m", Proto::Resp2, false).matches("s_down,slave").count(), 2);
        assert_eq!(ask("SENTINEL SENTINELS m", Proto::Resp2, true).matches("\r\nsentinel\r\n").count(), 2);
        assert!(ask("SENTINEL CKQUORUM m", Proto::Resp2, true).starts_with("+OK 3 usable Sentinels."));
        assert!(ask("SENTINEL CKQUORUM m", Proto::Resp2, false).starts_with("-NOQUORUM 1 usable Sentinels."));
        assert!(ask("SENTINEL FAILOVER m", Proto::Resp2, true).starts_with("-ERR unknown subcommand 'FAILOVER'"));
    }
}
