//! A [`Sweep`] as a picture: throughput above, latency below; against the batch on the left, the payload on the right.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use super::contestant::{Kind, Native};
use super::sweep::{Figures, Point, Sweep};

const SIZE: (u32, u32) = (960, 640);
const COLORS: [(Kind, RGBColor); 3] = [
    (Kind::Native(Native::Plain), RGBColor(120, 120, 120)),
    (Kind::Native(Native::Overlapped), RGBColor(31, 119, 180)),
    (Kind::Host, RGBColor(214, 39, 40)),
];

pub(super) fn draw(sweep: &Sweep, file: &Path) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let panels = area.split_evenly((2, 2));
    let sides = [("events of a batch", &sweep.batch), ("bytes of a payload", &sweep.payload)];
    for (column, (across, points)) in sides.into_iter().enumerate() {
        panel(&panels[column], ("events/s", across), points, |figures| figures.events_per_s)?;
        panel(&panels[2 + column], ("p99 ms", across), points, |figures| figures.p99_ms)?;
    }
    area.present()?;
    Ok(())
}

/// Both axes are logarithmic.
fn panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    (up, across): (&str, &str),
    points: &[Point],
    figure: impl Fn(&Figures) -> f64,
) -> Result<(), Box<dyn Error>> {
    let (first, last) = (points.first().map_or(1, |point| point.size), points.last().map_or(10, |p| p.size));
    let all = || points.iter().flat_map(|point| point.figures.values()).map(&figure);
    let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::MIN_POSITIVE, f64::max));
    let mut chart = ChartBuilder::on(area)
        .margin(16)
        // For half of the last label.
        .margin_right(32)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .caption(format!("{up} by {across}"), ("sans-serif", 16))
        .build_cartesian_2d(
            (f64::from(first)..f64::from(last)).log_scale(),
            // Above, there is room for the legend.
            (least / 1.5..most * 8.0).log_scale(),
        )?;
    let number = |number: &f64| number.to_string();
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT).x_desc(across).y_desc(up);
    mesh.x_label_formatter(&number).y_label_formatter(&number).y_labels(6).draw()?;
    for (kind, color) in COLORS {
        let line: Vec<(f64, f64)> = points
            .iter()
            .filter_map(|point| Some((f64::from(point.size), figure(point.figures.get(kind.as_str())?))))
            .collect();
        chart
            .draw_series(LineSeries::new(line.iter().copied(), color.stroke_width(2)))?
            .label(kind.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        chart.draw_series(line.into_iter().map(|at| Circle::new(at, 3, color.filled())))?;
    }
    let place = SeriesLabelPosition::UpperRight;
    chart.configure_series_labels().position(place).background_style(WHITE).border_style(BLACK).draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contestant_has_its_line_in_each_of_the_four_panels() {
        let point = |size: u32| {
            let figures = Figures { events_per_s: f64::from(size) * 100.0, p99_ms: 5.0 + f64::from(size) };
            let of_all = COLORS.map(|(kind, _)| (kind.as_str(), figures));
            Point { size, rate: 1000, figures: of_all.into() }
        };
        let sweep = Sweep { batch: [10, 100].map(point).into(), payload: [313, 1000].map(point).into() };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bench.svg");
        draw(&sweep, &file).unwrap();
        let svg = std::fs::read_to_string(&file).unwrap();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"), "{svg}");
        for (kind, RGBColor(red, green, blue)) in COLORS {
            assert_eq!(svg.matches(&format!("\n{}\n", kind.as_str())).count(), 4, "{svg}");
            let color = format!("#{red:02X}{green:02X}{blue:02X}");
            let lines = svg.lines().filter(|line| line.starts_with("<polyline") && line.contains(&color));
            assert_eq!(lines.count(), 8, "a line and its entry in the legend: {svg}");
        }
    }
}
