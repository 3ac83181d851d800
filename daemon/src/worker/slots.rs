//! Sessions by number. A number names one session for ever, as far as anybody can still ask for it.
//!
//! A slot is used again, but under another generation: number = generation << 16 | index. An answer
//! of the log writer, or a doorbell, that comes late for an ended session finds nobody. A
//! generation comes back after 65,536 uses of one slot, and no answer outlives the pair that long.

const INDEX_BITS: u32 = 16;
/// Sessions that a worker can hold; the configuration's limit is far below.
pub const SLOTS_MAX: usize = 1 << INDEX_BITS;

pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

struct Slot<T> {
    generation: u16,
    value: Option<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Puts in what `make` makes of its number. `None`: every slot is taken.
    pub fn insert(&mut self, make: impl FnOnce(u32) -> T) -> Option<u32> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < SLOTS_MAX => {
                self.slots.push(Slot { generation: 0, value: None });
                self.slots.len() as u32 - 1
            }
            None => return None,
        };
        let slot = &mut self.slots[index as usize];
        let number = u32::from(slot.generation) << INDEX_BITS | index;
        slot.value = Some(make(number));
        Some(number)
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let slot = self.slots.get_mut(index(number))?;
        slot.value.as_mut().filter(|_| u32::from(slot.generation) == number >> INDEX_BITS)
    }

    pub fn remove(&mut self, number: u32) -> Option<T> {
        self.get_mut(number)?;
        let slot = &mut self.slots[index(number)];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index(number) as u32);
        slot.value.take()
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| slot.value.as_mut())
    }

    /// What lies at place `first` and behind it, with its place.
    pub fn from(&self, first: usize) -> impl Iterator<Item = (usize, &T)> {
        let places = self.slots.iter().enumerate().skip(first);
        places.filter_map(|(place, slot)| slot.value.as_ref().map(|value| (place, value)))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

fn index(number: u32) -> usize {
    number as usize & (SLOTS_MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_never_names_the_next_session_of_its_slot() {
        let mut slots = Slots::default();
        let first = slots.insert(|number| number).unwrap();
        assert_eq!(slots.remove(first), Some(first));
        let second = slots.insert(|number| number).unwrap();
        assert_eq!(index(first), index(second));
        assert_ne!(first, second);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second).copied(), Some(second));
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn generations_come_round_without_harm() {
        let mut slots = Slots::default();
        for _ in 0..(1 << 16) + 2 {
            let number = slots.insert(|number| number).unwrap();
            assert_eq!(slots.remove(number), Some(number));
        }
        assert_eq!(slots.len(), 0);
    }
}
