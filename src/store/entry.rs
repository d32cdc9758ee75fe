//! One key: header, context, key and value in a single allocation, behind a pointer of eight bytes.
//!
//! A cache is mostly its entries, so the layout is by hand: `[Header | dots | key | value]`. The dots are those of the
//! version's context and, behind them, that of the rest, where it has to be named (see [`rest_unnamed`]). A string's
//! value lies inline; any other type keeps a `Box<Value>` whose address lies where the value would. The allocation is
//! rounded up to 16 bytes, and a value that fits the same rounding is overwritten in place; one that does not gets a
//! new allocation, so that a short value never keeps a long one's memory.
//!
//! This file is where the store's `unsafe` is, but for one instruction (`prefetch`). The proof, once for all blocks
//! below:
//! - `Entry.0` always comes from [`allocate`], is owned by exactly one `Entry`, and is freed only in `Drop` or by
//!   [`Entry::rebuild`], with the layout that the header's lengths give; nothing changes a length without keeping
//!   the rounded size.
//! - Every byte behind the header was written before the `Entry` exists, and slices into it are built from the
//!   header's own lengths, under the borrow of the `Entry`.
//! - `kind == BOXED` exactly when the value bytes are the address that `Box::into_raw` gave; it is read back
//!   unaligned, dereferenced only under the borrow of the `Entry`, and turned back into a `Box` once.
//! - `Entry` owns what it points to and shares nothing, so it is `Send`, and `Sync` behind `&`, as a `Box` is.
//!
//! Knows nothing of locks, tables or merging.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::NonNull;

use crate::base::clock::Hlc;
use crate::base::version::{Actor, CONTEXT_DOTS_MAX, Context, Dot, Version};
pub use crate::store::parts::{Data, FLAG_EXPIRED, FLAG_RAW, FLAG_TEXT, Meta, Payload, rest_unnamed};
use crate::store::prefetch::prefetch;
use crate::store::size::size_class;
use crate::store::value::Value;

const HEADER_BYTES: usize = size_of::<Header>();
const DOT_BYTES: usize = 10;
const ROUND_BYTES: usize = 16;

/// Entries from this size on are rounded up to the allocator's size class, so that appending seldom moves them.
const ROOMY_BYTES_MIN: usize = 1_024;
const BOX_BYTES: usize = size_of::<*mut Value>();

const STRING: u8 = 0;
const TOMBSTONE: u8 = 1;
const BOXED: u8 = 2;

#[repr(C)]
struct Header {
    deadline_ms: u64,
    hlc: u64,
    created_s: u32,
    access: u32,
    key_len: u32,
    value_len: u32,
    actor: u16,
    /// Dots behind the header.
    dots_len: u8,
    /// Whether the last of them is that of the rest.
    names_rest: bool,
    kind: u8,
    db: u8,
    flags: u8,
    maker: u8,
}

thread_local! {
    static MAKER: Cell<u8> = const { Cell::new(0) };
}

/// Has the entries that this thread makes from now on bear this number; 0, as at first, for no one in particular.
pub fn set_maker(number: u8) {
    MAKER.set(number);
}

/// A key with its value; see the head of the file.
pub struct Entry(NonNull<Header>);

// SAFETY: an Entry owns its allocation and its boxed value alone; `Value` is Send and Sync.
unsafe impl Send for Entry {}
// SAFETY: as above; no method changes anything through `&Entry`.
unsafe impl Sync for Entry {}

impl Entry {
    /// An entry for `key` in database `db`. Key and value are shorter than 4 GiB: the limits of requests, commands and
    /// frames see to it, and one that is not stops the caller here.
    pub fn new(db: u8, key: &[u8], payload: Payload<'_>, version: &Version, meta: Meta) -> Entry {
        match payload {
            Payload::String(bytes) => Self::build(db, key, STRING, bytes, version, meta),
            Payload::Tombstone => Self::build(db, key, TOMBSTONE, &[], version, meta),
            Payload::Value(value) => {
                let address = Box::into_raw(value) as usize;
                Self::build(db, key, BOXED, &address.to_ne_bytes(), version, meta)
            }
        }
    }

    /// Puts the same key and value under another version and meta: a new allocation, the boxed value moved, not copied.
    pub fn rebuild(&mut self, version: &Version, meta: Meta) {
        let moved = Self::build(self.db(), self.key(), self.header().kind, self.tail(), version, meta);
        let old = std::mem::replace(self, moved);
        // The boxed value now belongs to `self`: free the old block without dropping it.
        release(old.0, old.layout());
        std::mem::forget(old);
    }

    fn build(db: u8, key: &[u8], kind: u8, value: &[u8], version: &Version, meta: Meta) -> Entry {
        // No version names more; what is written below must be what the header says, whatever came.
        let context = version.context.get(..CONTEXT_DOTS_MAX).unwrap_or(&version.context);
        let unnamed = rest_unnamed(kind != BOXED, meta.deadline_ms, version.dot);
        let rest = meta.rest.filter(|dot| *dot != unnamed);
        let dots_len = context.len() + usize::from(rest.is_some());
        let (Some(key_len), Some(value_len)) = (length_of(key.len()), length_of(value.len())) else {
            panic!("a key or value of 4 GiB or more");
        };
        let header = Header {
            deadline_ms: meta.deadline_ms,
            hlc: version.dot.hlc.0,
            created_s: meta.created_s,
            access: meta.access,
            key_len,
            value_len,
            actor: version.dot.actor.0,
            dots_len: dots_len as u8,
            names_rest: rest.is_some(),
            kind,
            db,
            flags: meta.flags,
            maker: MAKER.get(),
        };
        let block = allocate(layout(dots_len, key.len(), value.len()));
        // SAFETY: `block` is fresh, aligned for Header, and as long as the three parts written behind it.
        unsafe {
            block.write(header);
            let mut at = block.as_ptr().cast::<u8>().add(HEADER_BYTES);
            for dot in context.iter().chain(&rest) {
                at.copy_from_nonoverlapping(bytes_of(*dot).as_ptr(), DOT_BYTES);
                at = at.add(DOT_BYTES);
            }
            at.copy_from_nonoverlapping(key.as_ptr(), key.len());
            at.add(key.len()).copy_from_nonoverlapping(value.as_ptr(), value.len());
        }
        Entry(block)
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        let header = self.header();
        self.bytes(usize::from(header.dots_len) * DOT_BYTES, header.key_len as usize)
    }

    /// True when this is the entry of `key` in database `db`.
    #[inline]
    pub fn is_called(&self, db: u8, key: &[u8]) -> bool {
        self.key() == key && self.db() == db
    }

    /// Has the first two cache lines fetched: header and key, and a short value.
    #[inline]
    pub fn prefetch(&self) {
        let start = self.0.as_ptr().cast::<u8>().cast_const();
        prefetch(start);
        prefetch(start.wrapping_add(64));
    }

    /// What the key holds.
    #[inline]
    pub fn data(&self) -> Data<'_> {
        match self.header().kind {
            STRING => Data::String(self.tail()),
            TOMBSTONE => Data::Tombstone,
            // SAFETY: kind says BOXED, so the tail is a live box of ours, borrowed as long as `self` is.
            _ => Data::Value(unsafe { &*self.boxed() }),
        }
    }

    /// The boxed value to change in place; `None` for strings and tombstones.
    pub fn value_mut(&mut self) -> Option<&mut Value> {
        // SAFETY: as in `data`, and `&mut self` makes the borrow exclusive.
        (self.header().kind == BOXED).then(|| unsafe { &mut *self.boxed() })
    }

    /// Puts `bytes` in place of a string of the same rounded size. False, with nothing changed, when it does not fit.
    #[inline]
    pub fn overwrite(&mut self, bytes: &[u8]) -> bool {
        let header = self.header();
        let (dots_len, key_len) = (usize::from(header.dots_len), header.key_len as usize);
        let Some(value_len) = length_of(bytes.len()) else { return false };
        let is_as_large = value_len == header.value_len || layout(dots_len, key_len, bytes.len()) == self.layout();
        if header.kind != STRING || !is_as_large {
            return false;
        }
        // SAFETY: the block is exactly as large for the new length as for the old one, and ours alone.
        unsafe {
            self.start().add(dots_len * DOT_BYTES + key_len).copy_from(bytes.as_ptr(), bytes.len());
        }
        self.header_mut().value_len = value_len;
        true
    }

    /// Makes a string longer, by zeros, where it is. False, with nothing changed, when there is no room for that.
    pub fn grow(&mut self, len: usize) -> bool {
        let header = self.header();
        let (dots_len, key_len) = (usize::from(header.dots_len), header.key_len as usize);
        let old_len = header.value_len as usize;
        let Some(value_len) = length_of(len) else { return false };
        if header.kind != STRING || len < old_len || layout(dots_len, key_len, len) != self.layout() {
            return false;
        }
        // SAFETY: the block is exactly as large for the new length as for the old one, and ours alone.
        unsafe {
            self.start().add(self.tail_offset() + old_len).write_bytes(0, len - old_len);
        }
        self.header_mut().value_len = value_len;
        true
    }

    /// The bytes of a string to change in place; `None` for other kinds.
    pub fn string_mut(&mut self) -> Option<&mut [u8]> {
        let header = self.header();
        if header.kind != STRING {
            return None;
        }
        let (from, len) = (self.tail_offset(), header.value_len as usize);
        // SAFETY: the value's bytes lie inside the block and are borrowed with `&mut self`.
        Some(unsafe { std::slice::from_raw_parts_mut(self.start().add(from), len) })
    }

    /// The version of the last write.
    pub fn version(&self) -> Version {
        let dots = self.bytes(0, self.context_len() * DOT_BYTES);
        let context: Context = dots.chunks_exact(DOT_BYTES).map(dot_of).collect();
        Version { dot: self.dot(), context }
    }

    /// The write that the rest is of, see [`rest_unnamed`].
    #[inline]
    fn rest(&self) -> Dot {
        let header = self.header();
        match header.names_rest {
            true => dot_of(self.bytes(self.context_len() * DOT_BYTES, DOT_BYTES)),
            false => rest_unnamed(header.kind != BOXED, header.deadline_ms, self.dot()),
        }
    }

    /// The write that a string or tombstone is of: the last one, but where that has only moved the deadline. Of two
    /// strings the later one wins, whatever was done to the other since.
    #[inline]
    pub fn written(&self) -> Dot {
        if self.header().kind == BOXED { self.dot() } else { self.rest() }
    }

    /// The dot of the last write: what replicas compare.
    #[inline]
    pub fn dot(&self) -> Dot {
        let header = self.header();
        Dot { hlc: Hlc(header.hlc), actor: Actor(header.actor) }
    }

    /// The stamp of the latest write that the version has seen.
    pub fn latest(&self) -> Hlc {
        if self.context_is_empty() { self.dot().hlc } else { self.version().latest() }
    }

    /// True when the version names no other actor, so that a write by the dot's own actor changes only the dot.
    #[inline]
    pub fn context_is_empty(&self) -> bool {
        self.context_len() == 0
    }

    #[inline]
    fn context_len(&self) -> usize {
        let header = self.header();
        usize::from(header.dots_len) - usize::from(header.names_rest)
    }

    /// Moves the dot, the context staying as it is: for a write of all that there is.
    #[inline]
    pub fn set_dot(&mut self, dot: Dot) {
        self.move_dot(dot, dot);
    }

    /// Moves the dot, the context staying as it is, and says which write the rest is of. False, with nothing changed,
    /// where there is no room to name that.
    #[inline]
    pub fn move_dot(&mut self, dot: Dot, rest: Dot) -> bool {
        let header = self.header_mut();
        if !header.names_rest && rest != rest_unnamed(header.kind != BOXED, header.deadline_ms, dot) {
            return false;
        }
        header.hlc = dot.hlc.0;
        header.actor = dot.actor.0;
        if header.names_rest {
            let at = self.context_len() * DOT_BYTES;
            // SAFETY: the dot's bytes are the last of those that the header counts, inside the block, ours alone.
            unsafe { self.start().add(at).copy_from_nonoverlapping(bytes_of(rest).as_ptr(), DOT_BYTES) };
        }
        true
    }

    /// The write that the rest is of after a write that leaves it as it is, or, if it `redates` the key, is one of the
    /// deadline.
    pub fn rest_after(&self, dot: Dot, redates: bool) -> Dot {
        if redates && self.header().kind == BOXED { dot } else { self.rest() }
    }

    /// The database the key lives in.
    #[inline]
    pub fn db(&self) -> u8 {
        self.header().db
    }

    /// What the entry carries beside key and value.
    pub fn meta(&self) -> Meta {
        let Header { deadline_ms, created_s, access, flags, .. } = *self.header();
        Meta { deadline_ms, created_s, access, flags, rest: Some(self.rest()) }
    }

    /// When the key expires, in milliseconds since 1970; 0 for never.
    #[inline]
    pub fn deadline_ms(&self) -> u64 {
        self.header().deadline_ms
    }

    /// Sets when the key expires; 0 for never.
    #[inline]
    pub fn set_deadline_ms(&mut self, deadline_ms: u64) {
        self.header_mut().deadline_ms = deadline_ms;
    }

    /// The access word of the eviction policy.
    #[inline]
    pub fn access(&self) -> u32 {
        self.header().access
    }

    /// Sets the access word of the eviction policy.
    #[inline]
    pub fn set_access(&mut self, access: u32) {
        self.header_mut().access = access;
    }

    /// Sets the `FLAG_*` bits.
    #[inline]
    pub fn set_flags(&mut self, flags: u8) {
        self.header_mut().flags = flags;
    }

    /// The number of the thread that made it, see [`set_maker`]. Memory is best given back where it came from: the
    /// allocator has its owner look through all that others have given back, in one go.
    pub fn maker(&self) -> u8 {
        self.header().maker
    }

    /// True for a deleted key that is only remembered.
    #[inline]
    pub fn is_tombstone(&self) -> bool {
        self.header().kind == TOMBSTONE
    }

    /// True for a tombstone that expiry alone has made, see [`FLAG_EXPIRED`].
    pub fn is_expired_tombstone(&self) -> bool {
        self.is_tombstone() && self.header().flags & FLAG_EXPIRED != 0
    }

    /// True at and after the key's deadline.
    #[inline]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        let deadline_ms = self.header().deadline_ms;
        deadline_ms != 0 && deadline_ms <= now_ms
    }

    /// Bytes of memory that the entry takes, the allocator's rounding and a boxed value included.
    pub fn memory_bytes(&self) -> usize {
        let boxed = match self.data() {
            Data::Value(value) => value.memory_bytes(),
            Data::String(_) | Data::Tombstone => 0,
        };
        size_class(self.layout().size()) + boxed
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: the block starts with an initialised Header.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn header_mut(&mut self) -> &mut Header {
        // SAFETY: as above, and `&mut self` makes it exclusive.
        unsafe { self.0.as_mut() }
    }

    fn start(&self) -> *mut u8 {
        // SAFETY: the block is at least a header long.
        unsafe { self.0.as_ptr().cast::<u8>().add(HEADER_BYTES) }
    }

    #[inline]
    fn bytes(&self, from: usize, len: usize) -> &[u8] {
        // SAFETY: callers pass ranges made of the header's own lengths, all of them written at construction.
        unsafe { std::slice::from_raw_parts(self.start().add(from), len) }
    }

    fn tail_offset(&self) -> usize {
        let header = self.header();
        usize::from(header.dots_len) * DOT_BYTES + header.key_len as usize
    }

    #[inline]
    fn tail(&self) -> &[u8] {
        self.bytes(self.tail_offset(), self.header().value_len as usize)
    }

    fn boxed(&self) -> *mut Value {
        let address: [u8; BOX_BYTES] = self.tail().try_into().unwrap_or_default();
        usize::from_ne_bytes(address) as *mut Value
    }

    fn layout(&self) -> Layout {
        let header = self.header();
        layout(usize::from(header.dots_len), header.key_len as usize, header.value_len as usize)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.header().kind == BOXED {
            // SAFETY: the box is ours and nobody looks at the entry any more.
            drop(unsafe { Box::from_raw(self.boxed()) });
        }
        release(self.0, self.layout());
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = String::from_utf8_lossy(self.key());
        f.debug_struct("Entry").field("key", &key).field("data", &self.data()).field("dot", &self.dot()).finish()
    }
}

/// Reads a dot as [`bytes_of`] writes it.
#[inline]
fn dot_of(bytes: &[u8]) -> Dot {
    let (hlc, actor) = bytes.split_at(8);
    Dot {
        hlc: Hlc(u64::from_ne_bytes(hlc.try_into().unwrap_or_default())),
        actor: Actor(u16::from_ne_bytes(actor.try_into().unwrap_or_default())),
    }
}

/// A dot as it lies in an entry.
#[inline]
fn bytes_of(dot: Dot) -> [u8; DOT_BYTES] {
    let mut bytes = [0; DOT_BYTES];
    let (hlc, actor) = bytes.split_at_mut(8);
    hlc.copy_from_slice(&dot.hlc.0.to_ne_bytes());
    actor.copy_from_slice(&dot.actor.0.to_ne_bytes());
    bytes
}

/// A length as the header keeps it; `None` for one that it cannot.
#[inline]
fn length_of(bytes: usize) -> Option<u32> {
    u32::try_from(bytes).ok()
}

fn layout(dots_len: usize, key_len: usize, value_len: usize) -> Layout {
    let bytes = HEADER_BYTES + dots_len * DOT_BYTES + key_len + value_len;
    // What the allocator would set aside anyway is ours to grow into; small entries are counted more tightly.
    let rounded = if bytes < ROOMY_BYTES_MIN { bytes } else { size_class(bytes) }.next_multiple_of(ROUND_BYTES);
    // Lengths come from slices that exist, so the sum is far from the limit that this checks.
    Layout::from_size_align(rounded, align_of::<Header>()).unwrap_or_else(|_| Layout::new::<Header>())
}

fn allocate(layout: Layout) -> NonNull<Header> {
    // SAFETY: the layout is never empty: it holds at least a Header.
    let block = unsafe { alloc(layout) };
    NonNull::new(block.cast()).unwrap_or_else(|| handle_alloc_error(layout))
}

fn release(block: NonNull<Header>, layout: Layout) {
    // SAFETY: callers pass a block of `allocate` with the layout that its header gives, and never use it again.
    unsafe { dealloc(block.as_ptr().cast(), layout) };
}
