//! A figure: both axes logarithmic, so that flat is flat and linear a slope of one.

use std::fmt::Write;
use std::path::Path;

use plotters::prelude::*;

use crate::error::{Context, Result};

const SIZE: (u32, u32) = (760, 460);
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 90, 160), RGBColor(190, 60, 20), RGBColor(20, 130, 60), RGBColor(120, 60, 150)];

/// One operation on one candidate.
pub struct Line {
    pub label: String,
    /// What grows, and microseconds.
    pub points: Vec<(f64, f64)>,
    /// Whether it is of the bare directory: drawn in the same colour, and thinner.
    pub bare: bool,
}

pub struct Figure {
    pub title: &'static str,
    pub x: &'static str,
    /// When and on what.
    pub caption: String,
    pub lines: Vec<Line>,
}

impl Figure {
    /// The figures as a Markdown table.
    pub fn table(&self) -> String {
        let mut text = format!("\n{}, µs:\n\n| {} |", self.title, self.x);
        let xs = self.lines.first().map(|line| line.points.as_slice()).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = xs.iter().try_for_each(|(x, _)| write!(text, " {x} |"));
        let _ = write!(text, "\n|---|{}\n", "---|".repeat(xs.len()));
        for line in &self.lines {
            let _ = write!(text, "| {} |", line.label);
            let _ = line.points.iter().try_for_each(|(_, y)| write!(text, " {y:.1} |"));
            text.push('\n');
        }
        text
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        self.draw(path).with(|| path.display().to_string())
    }

    fn draw(&self, path: &Path) -> std::result::Result<(), Box<dyn std::error::Error>> {
        let xs = || self.lines.iter().flat_map(|line| line.points.iter().map(|(x, _)| *x));
        let ys = || self.lines.iter().flat_map(|line| line.points.iter().map(|(_, y)| *y));
        let (left, right) = (xs().fold(f64::MAX, f64::min), xs().fold(0.0, f64::max));
        let (low, high) = (ys().fold(f64::MAX, f64::min), ys().fold(0.0, f64::max));
        let root = SVGBackend::new(path, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (top, foot) = root.split_vertically(SIZE.1 as i32 - 20);
        foot.draw(&Text::new(self.caption.clone(), (10, 4), ("sans-serif", 11).into_font()))?;
        let mut chart = ChartBuilder::on(&top)
            .caption(self.title, ("sans-serif", 17))
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(60)
            .build_cartesian_2d(
                (left..right * 1.001).log_scale(),
                (low / 1.5..high * 60.0).log_scale(),
            )?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc("µs an operation")
            .light_line_style(WHITE)
            .draw()?;
        let operations = self.lines.iter().filter(|line| !line.bare).count();
        let mut bare = 0;
        for (number, line) in self.lines.iter().enumerate() {
            let colour = match line.bare {
                true => {
                    bare += 1;
                    COLOURS[(bare - 1) % COLOURS.len()].mix(0.4)
                }
                false => COLOURS[number % operations % COLOURS.len()].mix(1.0),
            };
            let style = colour.stroke_width(if line.bare { 1 } else { 2 });
            chart
                .draw_series(LineSeries::new(line.points.iter().copied(), style).point_size(2))?
                .label(line.label.clone())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(("sans-serif", 11))
            .background_style(WHITE.mix(0.8))
            .draw()?;
        root.present()?;
        Ok(())
    }
}
