//! A length of time as Go programs read it: `300ms`, `1.5h`, `2h45m`, `-1m`, `0`. Pure.

/// Units in nanoseconds. The micro sign and the Greek letter are both taken.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// In nanoseconds.
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    let wrong = |why: &str| format!("{why} (a duration is like 1m30s or 500ms)");
    let (negative, unsigned) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if unsigned == "0" {
        return Ok(0);
    }
    if unsigned.is_empty() {
        return Err(wrong("no number"));
    }
    let mut rest = unsigned;
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (part, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && part.is_empty() {
            return Err(wrong("no number before a unit"));
        }
        let end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(wrong("no unit after a number"));
        }
        let Some((_, nanos)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(wrong(&format!("unknown unit `{}`", unit.escape_debug())));
        };
        let sum = add(total, whole, part, *nanos).filter(|sum| *sum <= i128::from(i64::MAX));
        total = sum.ok_or_else(|| wrong("too long"))?;
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| wrong("too long"))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `total` and `whole.part` units; what is less than a nanosecond goes away.
fn add(total: i128, whole: &str, part: &str, unit: u64) -> Option<i128> {
    let number = |digits: &str| match digits {
        "" => Some(0i128),
        digits => digits.parse().ok(),
    };
    // More digits than an hour has nanoseconds change nothing.
    let part = &part[..part.len().min(15)];
    let scale = 10i128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let unit = i128::from(unit);
    let whole = number(whole)?.checked_mul(unit)?;
    total
        .checked_add(whole)?
        .checked_add(number(part)? * unit / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_reads() {
        for (text, nanos) in [
            ("0", 0),
            ("+0", 0),
            ("5s", 5_000_000_000),
            ("300ms", 300_000_000),
            ("1.5h", 5_400_000_000_000),
            ("2h45m", 9_900_000_000_000),
            ("1m0.5s", 60_500_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("-1.5m", -90_000_000_000),
            ("7ns", 7),
            ("1us", 1000),
            ("1µs", 1000),
            ("1μs", 1000),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("9223372036854775807ns", i64::MAX),
        ] {
            assert_eq!(parse(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn what_go_does_not_read() {
        for text in [
            "",
            "-",
            "+",
            "5",
            "s",
            ".s",
            ".",
            "5x",
            "5 s",
            "5s ",
            "--5s",
            "1e3s",
            "5S",
            "9223372036854775808ns",
            "99999999999999999999999999999999999999999h",
            "2562048h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
