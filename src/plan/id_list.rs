//! Lists of CPUs and NUMA nodes as the kernel writes them (`0-3,7`), as bit masks of any length. Pure; used by
//! `scheduling.rs` and `memory_policy.rs`.

use anyhow::{Context as _, Result, ensure};

/// Above what any kernel can be built for; without a limit a short text could ask for a mask of gigabytes.
const HIGHEST: u32 = 65_535;

/// The mask, lowest id first, without zero words at its end. An empty list is an empty mask.
pub(crate) fn parse(text: &str) -> Result<Vec<u64>> {
    let mut mask = Vec::new();
    if text.trim().is_empty() {
        return Ok(mask);
    }
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first, text)?, number(last, text)?);
        ensure!(
            first <= last,
            "`{text}`: the range `{}` goes backwards",
            part.trim()
        );
        for id in first..=last {
            let word = usize::try_from(id / 64).context("a mask longer than memory")?;
            if mask.len() <= word {
                mask.resize(word + 1, 0);
            }
            mask[word] |= 1 << (id % 64);
        }
    }
    Ok(mask)
}

fn number(text: &str, list: &str) -> Result<u32> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().unwrap_or(u32::MAX);
    ensure!(digits, "`{list}` is not a list of numbers and ranges");
    ensure!(
        number <= HIGHEST,
        "`{list}`: {text} is more than {HIGHEST}, which no kernel has"
    );
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_masks_of_the_length_they_need() {
        for (list, mask) in [
            ("", vec![]),
            ("0", vec![1]),
            ("0-3,7", vec![0b1000_1111]),
            (" 1 , 0 ", vec![3]),
            ("63-64", vec![1 << 63, 1]),
        ] {
            assert_eq!(parse(list).unwrap(), mask, "{list}");
        }
        // CPU_SET(3) ends at 1023.
        let long = parse("1024,2000").unwrap();
        assert_eq!((long.len(), long[16], long[31]), (32, 1, 1 << 16));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for list in [
            ",", "1,", "-1", "1-", "a", "3-1", "0-1-2", "65536", "1;2", "+1",
        ] {
            assert!(parse(list).is_err(), "{list}");
        }
        let error = parse("0-4294967295").unwrap_err().to_string();
        assert!(error.contains("4294967295 is more than 65535"), "{error}");
    }
}
