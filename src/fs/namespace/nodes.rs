//! The inodes that the kernel knows: their names, and the number of lookups.

use std::ffi::{OsStr, OsString};
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;
use dashmap::mapref::one::RefMut;
use rustix::fs::FileType;

use super::pin::Pin;
use crate::fs::{Attr, Inode};

/// The inodes that the kernel knows, by number, and the directories above their known names. Only
/// those without a known name keep a descriptor open.
#[derive(Debug, Default)]
pub struct Nodes(DashMap<Inode, Node>);

/// One name of an inode: its directory and its stored name in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The directory.
    pub parent: Inode,
    /// The name, as it is stored in the vault.
    pub name: Box<OsStr>,
}

#[derive(Debug)]
struct Node {
    /// Lookups that the kernel has not yet taken back.
    lookups: u64,
    /// Names in it by which other inodes are known. As long as there are some it stays, though the
    /// kernel forgets it: of a file with two names that may be the one that the kernel does not use.
    children: u64,
    /// Given to the kernel with the number, since the number may be given to another file later.
    generation: u32,
    /// The generation that the backing filesystem gives the file that was found last.
    born: u32,
    kind: FileType,
    /// The known names.
    links: Vec<Link>,
    /// Set while no name is known.
    nameless: Option<Box<Nameless>>,
}

/// A file or directory that the kernel still knows, without a known name.
#[derive(Debug)]
struct Nameless {
    /// `None` where no descriptor was left for it.
    pin: Option<Pin>,
    /// Its last name was removed. Otherwise it has names that were not looked up.
    gone: bool,
    /// The attributes after the removal, unless it was open then.
    left: Option<Attr>,
    /// Whether `pin` was used since, so that `left` may be out of date.
    reached: AtomicBool,
}

impl Node {
    fn new(kind: FileType, generation: u32) -> Self {
        let links = Vec::with_capacity(1);
        Self { lookups: 0, children: 0, generation, born: generation, kind, links, nameless: None }
    }

    /// The generation to tell of `attr`: another one than the node's own where the number was given
    /// to a new file while the kernel still knows the old one.
    fn generation_of(&self, attr: &Attr, backing: u32) -> u32 {
        match self.is_gone() || self.kind != attr.kind {
            true if backing == self.generation => backing.wrapping_add(1),
            true => backing,
            false => self.generation,
        }
    }

    fn is_gone(&self) -> bool {
        self.nameless.as_ref().is_some_and(|nameless| nameless.gone)
    }

    fn is_known(&self) -> bool {
        self.lookups > 0 || self.children > 0
    }

    /// Returns whether the name is new. Those that it replaces go to `dropped`.
    fn add_link(&mut self, link: Link, dropped: &mut Vec<Link>) -> bool {
        self.nameless = None;
        if self.links.contains(&link) {
            return false;
        }
        // A directory has one name; an older one is of before a rename.
        if self.kind == FileType::Directory {
            dropped.append(&mut self.links);
        }
        self.links.push(link);
        true
    }
}

/// An inode that is not remembered any more.
#[derive(Debug)]
pub struct Forgotten {
    /// Its number.
    pub inode: Inode,
    /// What it was.
    pub kind: FileType,
    /// The hold on it, if it had one.
    pub pin: Option<Pin>,
}

/// How an inode can be reached.
#[derive(Debug, Clone)]
pub enum Location {
    /// By this name.
    Linked(Link),
    /// By this alone.
    Pinned(Pin),
    /// It has no name any more, and nothing holds it.
    Unlinked,
    /// Not by anything that is known.
    Unknown,
}

impl Nodes {
    /// Notes one lookup that found `attr` under `link`, with the generation that the backing
    /// filesystem gives; returns the one to give to the kernel.
    pub fn remember(&self, attr: &Attr, backing: u32, link: Link) -> u32 {
        let mut node = self.0.entry(attr.inode).or_insert_with(|| Node::new(attr.kind, backing));
        let generation = node.generation_of(attr, backing);
        let mut dropped = Vec::new();
        if generation != node.generation {
            let (lookups, children) = (node.lookups, node.children);
            let new = Node { lookups, children, ..Node::new(attr.kind, generation) };
            dropped = std::mem::replace(&mut *node, new).links;
        } else if node.born != backing {
            // Behind the daemon's back the number was given to a new file, whose names these are not.
            dropped = std::mem::take(&mut node.links);
        }
        node.lookups += 1;
        // The kernel is given the present one, too.
        node.born = backing;
        self.relink(node, link, dropped);
        generation
    }

    /// The generation that [`Nodes::remember`] would tell.
    pub fn generation(&self, attr: &Attr, backing: u32) -> u32 {
        self.0.get(&attr.inode).map_or(backing, |node| node.generation_of(attr, backing))
    }

    /// Takes back `lookups`. Calls `gone` with an inode that is left with none, and with the
    /// directories above that were kept only for it.
    pub fn forget(&self, inode: Inode, lookups: u64, mut gone: impl FnMut(Forgotten)) {
        let take_back = |node: &mut Node| node.lookups = node.lookups.saturating_sub(lookups);
        if let Some((forgotten, links)) = self.reduce(inode, take_back) {
            gone(forgotten);
            self.drop_links(links, gone);
        }
    }

    /// Returns the inode, with the names that it had, if nothing keeps it after `less`.
    fn reduce(&self, inode: Inode, less: impl FnOnce(&mut Node)) -> Option<(Forgotten, Vec<Link>)> {
        let (inode, node) = self.0.remove_if_mut(&inode, |_, node| {
            less(node);
            !node.is_known()
        })?;
        let pin = node.nameless.and_then(|nameless| nameless.pin);
        Some((Forgotten { inode, kind: node.kind, pin }, node.links))
    }

    /// Gives `node` a name more, and counts the names in directories: those in `dropped` it has no
    /// longer. The root is none of the nodes, and stays.
    fn relink(&self, mut node: RefMut<'_, Inode, Node>, link: Link, mut dropped: Vec<Link>) {
        let parent = link.parent;
        let is_new = node.add_link(link, &mut dropped);
        // The directory may lie in the same part of the table.
        drop(node);
        if is_new && let Some(mut directory) = self.0.get_mut(&parent) {
            directory.children += 1;
        }
        self.drop_links(dropped, |_| {});
    }

    /// Names are no longer known. Not recursive: directories may be as deep as they like.
    fn drop_links(&self, mut links: Vec<Link>, mut gone: impl FnMut(Forgotten)) {
        let one_less = |node: &mut Node| node.children = node.children.saturating_sub(1);
        while let Some(link) = links.pop() {
            if let Some((forgotten, above)) = self.reduce(link.parent, one_less) {
                gone(forgotten);
                links.extend(above);
            }
        }
    }

    /// How the inode can be reached.
    pub fn locate(&self, inode: Inode) -> Location {
        let Some(node) = self.0.get(&inode) else { return Location::Unknown };
        match (node.links.first(), &node.nameless) {
            (Some(link), _) => Location::Linked(link.clone()),
            (None, Some(nameless)) => match &nameless.pin {
                Some(pin) => {
                    nameless.reached.store(true, Ordering::Relaxed);
                    Location::Pinned(pin.clone())
                }
                None if nameless.gone => Location::Unlinked,
                None => Location::Unknown,
            },
            (None, None) => Location::Unknown,
        }
    }

    /// The attributes of an inode without a name, where they are known to be as they were when the
    /// last name was removed.
    pub fn left(&self, inode: Inode) -> Option<Attr> {
        let node = self.0.get(&inode)?;
        let nameless = node.nameless.as_ref().filter(|nameless| nameless.gone)?;
        nameless.left.filter(|_| !nameless.reached.load(Ordering::Relaxed))
    }

    /// Shows `work` the name by which the inode can be reached, if it can; be brief.
    pub fn with_link<T>(&self, inode: Inode, work: impl FnOnce(&Link) -> T) -> Option<T> {
        let node = self.0.get(&inode)?;
        node.links.first().map(work)
    }

    /// All names of the inode that are known.
    pub fn links(&self, inode: Inode) -> Vec<Link> {
        self.0.get(&inode).map_or_else(Vec::new, |node| node.links.clone())
    }

    /// The generation that the backing filesystem gives the file, if `link` is a name of the inode.
    pub fn born(&self, inode: Inode, link: &Link) -> Option<u32> {
        self.0.get(&inode).filter(|node| node.links.contains(link)).map(|node| node.born)
    }

    /// Whether no name of the inode but `link` is known.
    pub fn is_only_link(&self, inode: Inode, link: &Link) -> bool {
        self.0.get(&inode).is_some_and(|node| node.links.iter().all(|known| known == link))
    }

    /// One name less. `left` are the attributes afterwards; `pin` is what the inode is reached by
    /// where that was its only known name.
    pub fn unlink(&self, link: &Link, left: Attr, pin: Option<Pin>) {
        let mut removed = Vec::new();
        if let Some(mut node) = self.0.get_mut(&left.inode) {
            let gone = left.nlink == 0;
            removed = node.links.extract_if(.., |known| known == link || gone).collect();
            if node.links.is_empty() {
                let left = (!matches!(pin, Some(Pin::File(_)))).then_some(left);
                let reached = AtomicBool::new(false);
                node.nameless = Some(Box::new(Nameless { pin, gone, left, reached }));
            }
        }
        self.drop_links(removed, |_| {});
    }

    /// Replaces one name of the inode by another.
    pub fn rename(&self, inode: Inode, from: &Link, to: Link) {
        let Some(mut node) = self.0.get_mut(&inode) else { return };
        let removed = node.links.extract_if(.., |known| known == from).collect();
        self.relink(node, to, removed);
    }

    /// The regular files among them.
    pub fn files(&self) -> Vec<Inode> {
        let files = self.0.iter().filter(|node| node.kind == FileType::RegularFile);
        files.map(|node| *node.key()).collect()
    }

    /// Inodes that are remembered.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Link {
    /// A name in a directory.
    pub fn new(parent: Inode, stored: &OsStr) -> Self {
        Self { parent, name: OsString::from(stored).into_boxed_os_str() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn attr(inode: u64, kind: FileType) -> Attr {
        let now = SystemTime::UNIX_EPOCH;
        Attr {
            inode: Inode(inode),
            size: 0,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            kind,
            mode: 0o600,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
        }
    }

    fn link(parent: u64, name: &str) -> Link {
        Link::new(Inode(parent), OsStr::new(name))
    }

    fn forget(nodes: &Nodes, inode: u64, lookups: u64) -> Vec<u64> {
        let mut gone = Vec::new();
        nodes.forget(Inode(inode), lookups, |forgotten| gone.push(forgotten.inode.0));
        gone
    }

    #[test]
    fn a_directory_stays_as_long_as_a_name_in_it_is_known() {
        let nodes = Nodes::default();
        nodes.remember(&attr(2, FileType::Directory), 0, link(1, "a"));
        nodes.remember(&attr(3, FileType::Directory), 0, link(1, "b"));
        nodes.remember(&attr(4, FileType::RegularFile), 0, link(2, "file"));
        nodes.remember(&attr(4, FileType::RegularFile), 0, link(3, "file"));
        assert!(forget(&nodes, 2, 1).is_empty());
        assert!(matches!(nodes.locate(Inode(2)), Location::Linked(_)));
        // What is renamed there is found under its new name.
        nodes.rename(Inode(4), &link(2, "file"), link(3, "other"));
        assert!(matches!(nodes.locate(Inode(2)), Location::Unknown));
        assert_eq!(forget(&nodes, 4, 2), [4]);
        assert_eq!(forget(&nodes, 3, 1), [3]);
        assert_eq!(nodes.len(), 0);
    }

    #[test]
    fn a_number_given_anew_has_the_names_of_the_new_file_alone() {
        let (nodes, file) = (Nodes::default(), attr(3, FileType::RegularFile));
        nodes.remember(&attr(2, FileType::Directory), 0, link(1, "a"));
        nodes.remember(&file, 7, link(2, "file"));
        nodes.remember(&file, 7, link(2, "other name"));
        assert_eq!(nodes.links(Inode(3)).len(), 2);
        nodes.remember(&file, 8, link(2, "new"));
        assert_eq!(nodes.links(Inode(3)), [link(2, "new")]);
        assert!(forget(&nodes, 2, 1).is_empty());
        assert_eq!(forget(&nodes, 3, 3), [3, 2]);
        assert_eq!(nodes.len(), 0);
    }

    #[test]
    fn a_deep_chain_of_directories_goes_with_what_is_known_at_its_end() {
        let (nodes, depth) = (Nodes::default(), 20_000);
        for inode in 2..depth {
            nodes.remember(&attr(inode, FileType::Directory), 0, link(inode - 1, "d"));
        }
        for inode in 2..depth - 1 {
            assert!(forget(&nodes, inode, 1).is_empty());
        }
        assert_eq!(forget(&nodes, depth - 1, 1).len() as u64, depth - 2);
        assert_eq!(nodes.len(), 0);
    }

    #[test]
    fn the_last_name_of_a_file_takes_the_directory_along_that_was_kept_for_it() {
        let nodes = Nodes::default();
        nodes.remember(&attr(2, FileType::Directory), 0, link(1, "a"));
        let file = attr(3, FileType::RegularFile);
        nodes.remember(&file, 0, link(2, "file"));
        assert!(forget(&nodes, 2, 1).is_empty());
        nodes.unlink(&link(2, "file"), Attr { nlink: 0, ..file }, None);
        assert_eq!(nodes.len(), 1);
        assert_eq!(forget(&nodes, 3, 1), [3]);
    }
}
