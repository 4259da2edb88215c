//! A private Redis Cluster.

use super::{Server, wait_until};

/// Masters that share the slots evenly, without replicas.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    /// Starts so many nodes; returns when all of them agree.
    #[must_use]
    pub fn new(nodes: u16) -> Self {
        let nodes: Vec<Server> = (0..nodes).map(|_| Server::node()).collect();
        let slots = 16_384 / nodes.len();
        for (index, node) in nodes.iter().enumerate() {
            let first = index * slots;
            let last = if index + 1 == nodes.len() {
                16_383
            } else {
                first + slots - 1
            };
            let _ = node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            let _ = node.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
        for node in &nodes[1..] {
            let (port, bus) = (node.address().port().to_string(), node.bus().to_string());
            let _ = nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        let all = format!("cluster_known_nodes:{}", nodes.len());
        wait_until("the cluster agrees", || {
            nodes.iter().all(|node| {
                let info = node.command(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains(&all)
            })
        });
        Self { nodes }
    }

    /// The nodes, to be asked.
    #[must_use]
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// The nodes, to be stopped and killed.
    pub fn nodes_mut(&mut self) -> &mut [Server] {
        &mut self.nodes
    }
}
