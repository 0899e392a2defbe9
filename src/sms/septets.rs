//! Septets in octets, without gaps, lowest bit first (3GPP TS 23.038 §6.1.2.1).
//!
//! Behind a header the first septet begins on a septet boundary counted from the start of the user data, so up to six
//! *fill bits* stand between them (3GPP TS 23.040 §9.2.3.24).

/// Packs septets behind `fill` bits (0 to 6).
pub fn pack(septets: &[u8], fill: usize) -> Vec<u8> {
    let mut packer = Packer::behind(Vec::with_capacity((septets.len() * 7 + fill).div_ceil(8)), fill);
    septets.iter().for_each(|septet| packer.push(*septet));
    packer.finish()
}

/// Packs one septet after the other behind octets that are there.
pub(super) struct Packer {
    octets: Vec<u8>,
    /// What does not fill seven octets yet, and how many bits that are.
    bits: u64,
    held: usize,
}

impl Packer {
    pub(super) fn behind(octets: Vec<u8>, fill: usize) -> Packer {
        Packer { octets, bits: 0, held: fill % 7 }
    }

    pub(super) fn push(&mut self, septet: u8) {
        self.bits |= u64::from(septet & 0x7F) << self.held;
        self.held += 7;
        if self.held >= 56 {
            let [seven @ .., _] = self.bits.to_le_bytes();
            self.octets.extend_from_slice(&seven);
            self.bits >>= 56;
            self.held -= 56;
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.octets.extend(self.bits.to_le_bytes().iter().take(self.held.div_ceil(8)));
        self.octets
    }
}

/// Unpacks at most `count` septets that stand behind `fill` bits; fewer if the octets end sooner.
pub fn unpack(octets: &[u8], fill: usize, count: usize) -> Vec<u8> {
    let fill = fill % 7;
    let there = (octets.len() * 8).saturating_sub(fill) / 7;
    (0..count.min(there))
        .map(|n| {
            let at = fill + n * 7;
            let octet = |i: usize| u16::from(octets.get(i).copied().unwrap_or_default());
            let pair = octet(at / 8) | octet(at / 8 + 1) << 8;
            (pair >> (at % 8)) as u8 & 0x7F
        })
        .collect()
}

/// The fill bits behind a header of so many octets.
pub fn fill(header: usize) -> usize {
    (7 - header * 8 % 7) % 7
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_well_known_example() {
        assert_eq!(hex::encode(pack(b"hellohello", 0)), "e8329bfd4697d9ec37");
        assert_eq!(unpack(&hex::decode("e8329bfd4697d9ec37").unwrap(), 0, 10), b"hellohello");
    }

    #[test]
    fn fill_bits_bring_the_text_to_a_septet_boundary() {
        // A header of 6 octets takes 48 bits, which is 6 septets and 6 bits: one bit of fill.
        assert_eq!([0, 4, 6, 7, 9, 12].map(fill), [0, 3, 1, 0, 5, 2]);
        assert_eq!(pack(b"A", 1), [0x82]);
        assert_eq!(unpack(&[0x82], 1, 1), b"A");
    }

    proptest! {
        #[test]
        fn what_is_packed_unpacks(septets in proptest::collection::vec(0u8..128, 0..180), fill in 0usize..7) {
            let octets = pack(&septets, fill);
            prop_assert_eq!(octets.len(), (septets.len() * 7 + fill).div_ceil(8));
            prop_assert_eq!(unpack(&octets, fill, septets.len()), septets.clone());
            prop_assert_eq!(unpack(&octets, fill, usize::MAX).len(), (octets.len() * 8 - fill.min(octets.len() * 8)) / 7);
        }
    }
}
