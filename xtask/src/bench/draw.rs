//! Drawings beside the page: bars in groups, each group on a scale of its own, as SVG.
//!
//! A bar is as long as the median; a line over it goes from the least to the most. The numbers stand beside it, so that
//! nothing has to be read off.

use std::fmt::Write;

use super::spread::Spread;

/// What is compared with each other.
pub(super) struct Group {
    pub(super) title: String,
    /// Each with its name, which has the same colour in all groups.
    pub(super) bars: Vec<(String, Spread)>,
}

const WIDTH: usize = 800;
/// Where bars begin, and how long the longest is.
const LEFT: f64 = 170.0;
const LONGEST: f64 = 500.0;
const BAR: usize = 18;
const HEADING: usize = 30;
const COLOURS: [&str; 6] = ["#2563eb", "#f59e0b", "#9ca3af", "#10b981", "#8b5cf6", "#ef4444"];

/// Draws the groups one below the other; `digits` is the number of decimals.
pub(super) fn bars(title: &str, groups: &[Group], digits: usize) -> String {
    let rows: usize = groups.iter().map(|group| HEADING + group.bars.len() * BAR).sum();
    let height = HEADING + rows + HEADING / 2;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-weight=\"bold\">{}</text>\n",
        escaped(title)
    );
    let mut names: Vec<&str> = Vec::new();
    let mut y = HEADING;
    for Group { title, bars } in groups {
        let most = bars.iter().map(|(_, spread)| spread.most).fold(f64::MIN_POSITIVE, f64::max);
        line(&mut svg, format_args!("<text x=\"10\" y=\"{}\" fill=\"#444\">{}</text>", y + 21, escaped(title)));
        y += HEADING;
        for (name, spread) in bars {
            let place = names.iter().position(|known| known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            bar(&mut svg, y, name, spread, COLOURS[place % COLOURS.len()], LONGEST / most, digits);
            y += BAR;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn bar(svg: &mut String, y: usize, name: &str, spread: &Spread, colour: &str, scale: f64, digits: usize) {
    let Spread { least, median, most } = *spread;
    let middle = y + BAR / 2;
    let at = |value: f64| LEFT + value * scale;
    let text = middle + 4;
    line(svg, format_args!("<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>", LEFT - 6.0, escaped(name)));
    let (top, height, width) = (y + 3, BAR - 6, median * scale);
    line(
        svg,
        format_args!("<rect x=\"{LEFT}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\"/>"),
    );
    line(svg, format_args!("<path d=\"M{:.1} {middle}H{:.1}\" stroke=\"#111\"/>", at(least), at(most)));
    line(svg, format_args!("<text x=\"{:.1}\" y=\"{text}\">{median:.digits$}</text>", at(most) + 6.0));
}

fn line(svg: &mut String, element: std::fmt::Arguments<'_>) {
    writeln!(svg, "{element}").expect("a string takes everything");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_of_a_group_fills_it() {
        let group = |title: &str, medians: [f64; 2]| Group {
            title: title.into(),
            bars: ["a & b", "c"]
                .into_iter()
                .zip(medians)
                .map(|(name, median)| (name.to_owned(), Spread { least: median / 2.0, median, most: median }))
                .collect(),
        };
        let svg = bars("rates", &[group("one", [10.0, 5.0]), group("two", [0.0, 2000.0])], 1);
        assert_eq!(svg.matches("width=\"500.0\"").count(), 2, "{svg}");
        assert_eq!(svg.matches("width=\"250.0\"").count(), 1, "{svg}");
        assert_eq!(svg.matches(COLOURS[0]).count(), 2, "{svg}");
        assert!(svg.contains(">a &amp; b</text>") && svg.contains(">2000.0</text>") && !svg.contains("NaN"), "{svg}");
    }
}
