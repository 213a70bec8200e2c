//! The strongly connected components of a graph, in one pass over its edges.

/// Numbers the component of each node of a graph; `edges` has the neighbours of each node.
///
/// Nodes have the same number if each of them leads to the other. An edge never leads to a higher number, so a loop over the
/// components by number sees the neighbours of a node before the node itself.
pub(super) fn components(edges: &[Vec<usize>]) -> Vec<usize> {
    let mut search = Search {
        edges,
        nodes: vec![Node::default(); edges.len()],
        open: Vec::new(),
        visited: 0,
        finished: 0,
    };
    for node in 0..edges.len() {
        if search.nodes[node].order.is_none() {
            search.visit(node);
        }
    }
    search.nodes.iter().map(|node| node.component).collect()
}

/// Tarjan's algorithm, with a stack of its own: chains of messages are longer than a thread's stack.
struct Search<'a> {
    edges: &'a [Vec<usize>],
    nodes: Vec<Node>,
    /// The nodes that were visited and have no component yet.
    open: Vec<usize>,
    visited: usize,
    finished: usize,
}

#[derive(Clone, Default)]
struct Node {
    /// The number of nodes visited before this one.
    order: Option<usize>,
    /// The lowest order that this node leads to, among open nodes.
    lowest: usize,
    is_open: bool,
    component: usize,
}

impl Search<'_> {
    fn visit(&mut self, start: usize) {
        self.begin(start);
        // Each node with the number of its next edge.
        let mut stack = vec![(start, 0)];
        while let Some((node, edge)) = stack.last_mut() {
            let node = *node;
            if let Some(&next) = self.edges[node].get(*edge) {
                *edge += 1;
                match self.nodes[next].order {
                    None => {
                        self.begin(next);
                        stack.push((next, 0));
                    }
                    Some(order) if self.nodes[next].is_open => self.lower(node, order),
                    Some(_) => {}
                }
            } else {
                stack.pop();
                self.end(node);
                if let Some((before, _)) = stack.last() {
                    self.lower(*before, self.nodes[node].lowest);
                }
            }
        }
    }

    fn begin(&mut self, node: usize) {
        self.nodes[node] = Node {
            order: Some(self.visited),
            lowest: self.visited,
            is_open: true,
            component: 0,
        };
        self.visited += 1;
        self.open.push(node);
    }

    fn lower(&mut self, node: usize, order: usize) {
        let lowest = &mut self.nodes[node].lowest;
        *lowest = order.min(*lowest);
    }

    /// Closes the component of `node`, if `node` was the first one visited in it.
    fn end(&mut self, node: usize) {
        if self.nodes[node].order != Some(self.nodes[node].lowest) {
            return;
        }
        while let Some(last) = self.open.pop() {
            self.nodes[last].is_open = false;
            self.nodes[last].component = self.finished;
            if last == node {
                break;
            }
        }
        self.finished += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_in_a_circle_share_a_number_and_edges_lead_down() {
        // 0 -> 1 <-> 2 -> 3, 4 -> 4, 5.
        let edges = [vec![1], vec![2], vec![1, 3], vec![], vec![4], vec![]];
        let found = components(&edges);
        assert_eq!(found[1], found[2]);
        assert!(found[0] > found[1] && found[2] > found[3]);
        let mut unique = found;
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_chain_may_be_longer_than_the_stack() {
        let len = 1_000_000;
        let edges: Vec<Vec<usize>> = (1..=len)
            .map(|next| if next < len { vec![next] } else { vec![] })
            .collect();
        assert_eq!(components(&edges).first(), Some(&(len - 1)));
    }
}
