//! Reads a condition. One pass, one level of recursion for each parenthesis, no memory beyond the result.

use super::super::window::{RANGES, Range};
use super::{MAX_COMPARISONS, MAX_DEPTH, MAX_TEXT, Node, Operator, Value};

const FUNCTIONS: &str = "NetworkErrorRatio(), ErrorRatio(), LatencyAtQuantileMS(quantile) or ResponseCodeRatio(from, to, from, to)";

/// What is wrong with a condition, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("character {at}: {why}")]
pub struct Mistake {
    /// The character, from 1.
    pub at: usize,
    /// What is wrong there.
    pub why: String,
}

pub(super) fn parse(text: &str) -> Result<(Node, Vec<Range>), Mistake> {
    if text.len() > MAX_TEXT {
        return Err(Mistake { at: MAX_TEXT, why: format!("longer than {MAX_TEXT} bytes") });
    }
    let mut reader = Reader { text, at: 0, ranges: Vec::new(), comparisons: 0 };
    let node = reader.any(0)?;
    reader.space();
    if reader.at < text.len() {
        return reader.wrong("expected `&&`, `||` or the end");
    }
    Ok((node, reader.ranges))
}

struct Reader<'t> {
    text: &'t str,
    /// Bytes read; always between two characters.
    at: usize,
    ranges: Vec<Range>,
    comparisons: usize,
}

type Read<T> = Result<T, Mistake>;

impl<'t> Reader<'t> {
    fn any(&mut self, depth: usize) -> Read<Node> {
        let mut nodes = vec![self.all(depth)?];
        while self.take("||") {
            nodes.push(self.all(depth)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Any(nodes) })
    }

    fn all(&mut self, depth: usize) -> Read<Node> {
        let mut nodes = vec![self.one(depth)?];
        while self.take("&&") {
            nodes.push(self.one(depth)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::All(nodes) })
    }

    fn one(&mut self, depth: usize) -> Read<Node> {
        if depth >= MAX_DEPTH {
            return self.wrong(format!("nested deeper than {MAX_DEPTH}"));
        }
        if self.take("(") {
            let node = self.any(depth + 1)?;
            self.expect(")")?;
            return Ok(node);
        }
        if self.take("!") {
            return Ok(Node::Not(Box::new(self.one(depth + 1)?)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Read<Node> {
        self.space();
        let start = self.at;
        self.comparisons += 1;
        if self.comparisons > MAX_COMPARISONS {
            return self.wrong(format!("more than {MAX_COMPARISONS} comparisons"));
        }
        let value = self.value()?;
        let Some(operator) = self.operator() else {
            return self.wrong("expected a comparison: >, >=, <, <=, == or !=");
        };
        let limit = self.number()?;
        if !matches!(value, Value::Latency(_)) && limit > 1.0 {
            self.at = start;
            return self.wrong("compares a ratio, which is never above 1, with more than 1");
        }
        Ok(Node::Compare(value, operator, limit))
    }

    fn value(&mut self) -> Read<Value> {
        let start = self.at;
        let word = self.word();
        if !matches!(word, "NetworkErrorRatio" | "ErrorRatio" | "LatencyAtQuantileMS" | "ResponseCodeRatio") {
            self.at = start;
            return self.wrong(format!("expected {FUNCTIONS}"));
        }
        self.expect("(")?;
        let value = match word {
            "NetworkErrorRatio" => Value::NetworkErrors,
            "ErrorRatio" => Value::Errors,
            "LatencyAtQuantileMS" => {
                let start = self.at;
                let percent = self.number()?;
                if !(percent > 0.0 && percent <= 100.0) {
                    self.at = start;
                    return self.wrong("expected a quantile above 0, up to 100");
                }
                Value::Latency(percent / 100.0)
            }
            _ => {
                let part = self.range()?;
                self.expect(",")?;
                Value::Codes(part, self.range()?)
            }
        };
        self.expect(")")?;
        Ok(value)
    }

    /// Two statuses; gives the index of their range.
    fn range(&mut self) -> Read<usize> {
        self.space();
        let start = self.at;
        let from = self.status()?;
        self.expect(",")?;
        let range = Range { from, to: self.status()? };
        if range.from >= range.to {
            self.at = start;
            return self.wrong("expected a range of statuses: the second beyond the first");
        }
        if let Some(index) = self.ranges.iter().position(|known| *known == range) {
            return Ok(index);
        }
        if self.ranges.len() == RANGES {
            self.at = start;
            return self.wrong(format!("more than {RANGES} different ranges of statuses"));
        }
        self.ranges.push(range);
        Ok(self.ranges.len() - 1)
    }

    fn status(&mut self) -> Read<u16> {
        self.space();
        let start = self.at;
        let number = self.number()?;
        if number.fract() != 0.0 || number > 600.0 {
            self.at = start;
            return self.wrong("expected a status, 0 to 600");
        }
        Ok(number as u16)
    }

    /// Digits, perhaps with a fraction.
    fn number(&mut self) -> Read<f64> {
        self.space();
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        match rest[..end].parse::<f64>() {
            Ok(number) if number.is_finite() && rest.starts_with(|c: char| c.is_ascii_digit()) => {
                self.at += end;
                Ok(number)
            }
            _ => self.wrong("expected a number"),
        }
    }

    fn operator(&mut self) -> Option<Operator> {
        let all = [
            (">=", Operator::AtLeast),
            ("<=", Operator::AtMost),
            ("==", Operator::Equal),
            ("!=", Operator::Unequal),
            (">", Operator::Above),
            ("<", Operator::Below),
        ];
        all.into_iter().find(|(word, _)| self.take(word)).map(|(_, operator)| operator)
    }

    fn word(&mut self) -> &'t str {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn take(&mut self, word: &str) -> bool {
        self.space();
        let found = self.text[self.at..].starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn expect(&mut self, word: &str) -> Read<()> {
        if self.take(word) { Ok(()) } else { self.wrong(format!("expected `{word}`")) }
    }

    fn space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn wrong<T>(&self, why: impl Into<String>) -> Read<T> {
        Err(Mistake { at: self.text[..self.at].chars().count() + 1, why: why.into() })
    }
}
