//! SVG plots. Text stays text, so the files are small and searchable; sizes are estimates, since no font is loaded.

use std::path::Path;

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::details::merged_stages;
use crate::{
    error::ReportError,
    forward::ForwardResult,
    serving::{Cell, ServingResult},
};

const WIDTH: u32 = 960;
const FONT: &str = "sans-serif";

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A line's name and its points.
type Line = (String, Vec<(f64, f64)>);

/// One dot of a dot plot, with the range in which it moved.
struct Dot {
    label: String,
    value: f64,
    range: (f64, f64),
}

/// All plots of a serving result.
pub(super) fn serving(result: &ServingResult, dir: &Path) -> Result<(), ReportError> {
    let label = |cell: &Cell| format!("{}, {}", cell.server, cell.load.describe());
    let throughput: Vec<Line> = result
        .cells
        .iter()
        .map(|cell| {
            let points =
                cell.windows().enumerate().map(|(at, window)| (at as f64, window.pairs as f64)).collect();
            (label(cell), points)
        })
        .collect();
    draw(&dir.join("throughput.svg"), 420, |canvas| {
        lines(
            canvas,
            &throughput,
            ["Throughput over time", "window (1 s; rounds end to end)", "pairs/s"],
            Axis::LogY,
        )
    })?;

    let latency: Vec<Line> =
        result.cells.iter().map(|cell| (label(cell), cell.latency().distribution())).collect();
    draw(&dir.join("latency.svg"), 420, |canvas| {
        lines(
            canvas,
            &latency,
            ["Latency distribution", "latency (ms)", "share of requests at or below"],
            Axis::LogX,
        )
    })?;

    let stacks: Vec<(String, Vec<(String, f64)>)> = result
        .cells
        .iter()
        .filter_map(|cell| {
            let (stages, total) = merged_stages(cell)?;
            let whole = total.sum_ns() as f64;
            let share = |ns: u64| if whole > 0.0 { ns as f64 / whole * 100.0 } else { 0.0 };
            Some((
                label(cell),
                stages.iter().map(|(name, d)| ((*name).to_owned(), share(d.sum_ns()))).collect(),
            ))
        })
        .collect();
    draw(&dir.join("stages.svg"), rows_height(stacks.len()), |canvas| stage_stack(canvas, &stacks))?;

    let dots: Vec<Dot> = result
        .cells
        .iter()
        .filter_map(|cell| {
            let rounds = cell.throughputs();
            let (value, low, high) = (rounds.mean()?, rounds.min()?, rounds.max()?);
            Some(Dot { label: label(cell), value, range: (low, high) })
        })
        .collect();
    draw(&dir.join("comparison.svg"), rows_height(dots.len()), |canvas| {
        dot_plot(
            canvas,
            &dots,
            ["Throughput by server", "pairs/s (mean; bar: slowest to fastest round)"],
            None,
        )
    })
}

/// All plots of a forward result.
pub(super) fn forward(result: &ForwardResult, dir: &Path) -> Result<(), ReportError> {
    let base = result.yardstick.as_ref().and_then(|label| result.subjects.iter().find(|s| s.label == *label));
    let mut dots = Vec::new();
    for shape in result.shapes() {
        for subject in &result.subjects {
            let label = format!("{shape}, {}", subject.label);
            let speed = subject.pairs_per_second(shape);
            let dot = match base {
                Some(base) => {
                    subject.ratio(base, shape).map(|r| Dot { label, value: r.median, range: (r.min, r.max) })
                }
                None => speed.mean().zip(speed.min().zip(speed.max())).map(|(value, range)| Dot {
                    label,
                    value,
                    range,
                }),
            };
            dots.extend(dot);
        }
    }
    let (axis, reference) = match &base {
        Some(base) => (format!("speed over {} (median; bar: range over rounds)", base.label), Some(1.0)),
        None => ("pairs/s (mean; bar: slowest to fastest round)".to_owned(), None),
    };
    draw(&dir.join("comparison.svg"), rows_height(dots.len()), |canvas| {
        dot_plot(canvas, &dots, ["Forward pass", &axis], reference)
    })
}

type DrawResult = Result<(), Box<dyn std::error::Error>>;

fn draw(path: &Path, height: u32, figure: impl FnOnce(&Canvas<'_>) -> DrawResult) -> Result<(), ReportError> {
    let canvas = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    let drawn = canvas.fill(&WHITE).map_err(Into::into).and_then(|()| figure(&canvas));
    drawn.and_then(|()| canvas.present().map_err(Into::into)).map_err(|error: Box<dyn std::error::Error>| {
        ReportError::Plot { path: path.to_owned(), reason: error.to_string() }
    })
}

fn rows_height(rows: usize) -> u32 {
    // At least as high as the stages' legend.
    110 + 34 * u32::try_from(rows.max(3)).unwrap_or(u32::MAX / 64)
}

/// Which axis spans orders of magnitude. Backends differ by factors of a hundred: on a linear axis all but one vanish.
#[derive(Clone, Copy, PartialEq)]
enum Axis {
    LogX,
    LogY,
}

fn lines(canvas: &Canvas<'_>, lines: &[Line], [title, x, y]: [&str; 3], axis: Axis) -> DrawResult {
    let points = || lines.iter().flat_map(|(_, points)| points.iter().copied());
    let log_of = |point: (f64, f64)| if axis == Axis::LogX { point.0 } else { point.1 };
    let Some((low, high)) = log_range(points().map(log_of)) else {
        return nothing(canvas, title);
    };
    let mut builder = ChartBuilder::on(canvas);
    builder.caption(title, (FONT, 20)).margin(14).x_label_area_size(44).y_label_area_size(76);
    // The two axes have different types, so the chart is drawn by a macro rather than a function of many bounds.
    macro_rules! series {
        ($chart:expr) => {{
            let mut chart = $chart;
            chart
                .configure_mesh()
                .x_desc(x)
                .y_desc(y)
                .light_line_style(WHITE)
                .label_style((FONT, 13))
                .draw()?;
            for (index, (name, points)) in lines.iter().enumerate() {
                let color = Palette99::pick(index).to_rgba();
                let visible = points.iter().copied().filter(|point| log_of(*point) > 0.0);
                chart
                    .draw_series(LineSeries::new(visible, color.stroke_width(2)))?
                    .label(name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::LowerRight)
                .background_style(WHITE.mix(0.85))
                .border_style(BLACK.mix(0.3))
                .label_font((FONT, 13))
                .draw()?;
        }};
    }
    match axis {
        Axis::LogX => series!(builder.build_cartesian_2d((low..high).log_scale(), 0.0..1.0)?),
        Axis::LogY => {
            let last = points().map(|point| point.0).fold(1.0, f64::max);
            series!(builder.build_cartesian_2d(0.0..last, (low..high).log_scale())?);
        }
    }
    Ok(())
}

/// A number on an axis, without trailing zeros.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that plotters asks for")]
fn plain(value: &f64) -> String {
    // Ticks are sums of steps: 0.1 + 0.2 must not show its last digits.
    let rounded = (value * 1e6).round() / 1e6;
    rounded.to_string()
}

/// A range around all positive values; `None` without any.
fn log_range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = values
        .filter(|value| *value > 0.0 && value.is_finite())
        .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    (high > 0.0).then_some((low / 1.5, high * 1.5))
}

fn nothing(canvas: &Canvas<'_>, title: &str) -> DrawResult {
    canvas.draw_text(&format!("{title}: nothing was measured"), &TextStyle::from((FONT, 16)), (20, 20))?;
    Ok(())
}

fn row_label<'a>(labels: &'a [&'a str]) -> impl Fn(&SegmentValue<i32>) -> String + 'a {
    |segment| match segment {
        SegmentValue::CenterOf(row) => {
            usize::try_from(*row).ok().and_then(|row| labels.get(row)).copied().unwrap_or_default().to_owned()
        }
        _ => String::new(),
    }
}

fn stage_stack(canvas: &Canvas<'_>, stacks: &[(String, Vec<(String, f64)>)]) -> DrawResult {
    if stacks.is_empty() {
        return nothing(canvas, "Stages");
    }
    // Rows count from the bottom; the first belongs at the top.
    let labels: Vec<&str> = stacks.iter().rev().map(|(label, _)| label.as_str()).collect();
    let rows = i32::try_from(stacks.len())?;
    let mut chart = ChartBuilder::on(canvas)
        .caption("Where a request spends its time in the server", (FONT, 20))
        .margin(14)
        .x_label_area_size(40)
        .y_label_area_size(260)
        .build_cartesian_2d(0.0..130.0, (0..rows).into_segmented())?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc("% of the total (beyond 100: legend)")
        .x_labels(14)
        .x_label_formatter(&|x| if *x <= 100.0 { format!("{x:.0}") } else { String::new() })
        .y_labels(stacks.len())
        .y_label_formatter(&row_label(&labels))
        .label_style((FONT, 13))
        .draw()?;
    let names: Vec<&str> = stacks[0].1.iter().map(|(name, _)| name.as_str()).collect();
    for (stage, name) in names.iter().enumerate() {
        let color = Palette99::pick(stage).to_rgba();
        let bars = stacks.iter().rev().zip(0..).map(|((_, stages), row)| {
            let start: f64 = stages[..stage.min(stages.len())].iter().map(|(_, share)| share).sum();
            let width = stages.get(stage).map_or(0.0, |(_, share)| *share);
            let mut bar = Rectangle::new(
                [(start, SegmentValue::Exact(row)), (start + width, SegmentValue::Exact(row + 1))],
                color.filled(),
            );
            bar.set_margin(5, 5, 0, 0);
            bar
        });
        chart
            .draw_series(bars)?
            .label(*name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .label_font((FONT, 12))
        .draw()?;
    Ok(())
}

fn dot_plot(
    canvas: &Canvas<'_>,
    dots: &[Dot],
    [title, axis]: [&str; 2],
    reference: Option<f64>,
) -> DrawResult {
    let ends = dots.iter().flat_map(|dot| [dot.range.0, dot.range.1, dot.value]).chain(reference);
    let Some((low, high)) = log_range(ends).filter(|_| !dots.is_empty()) else {
        return nothing(canvas, title);
    };
    // Room for the figure beside the rightmost dot.
    let high = high * (high / low).powf(0.08);
    let labels: Vec<&str> = dots.iter().rev().map(|dot| dot.label.as_str()).collect();
    let rows = i32::try_from(dots.len())?;
    let mut chart = ChartBuilder::on(canvas)
        .caption(title, (FONT, 20))
        .margin(14)
        .x_label_area_size(40)
        .y_label_area_size(260)
        .build_cartesian_2d((low..high).log_scale(), (0..rows).into_segmented())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(axis)
        .x_label_formatter(&plain)
        .y_labels(dots.len())
        .y_label_formatter(&row_label(&labels))
        .label_style((FONT, 13))
        .draw()?;
    if let Some(at) = reference {
        let line = [(at, SegmentValue::Exact(0)), (at, SegmentValue::Exact(rows))];
        chart.draw_series([PathElement::new(line, BLACK.mix(0.5))])?;
    }
    for (index, (dot, row)) in dots.iter().rev().zip(0..).enumerate() {
        let color = Palette99::pick(index).to_rgba();
        let at = |x: f64| (x, SegmentValue::CenterOf(row));
        chart.draw_series([PathElement::new([at(dot.range.0), at(dot.range.1)], color.stroke_width(4))])?;
        chart.draw_series([Circle::new(at(dot.value), 5, color.filled())])?;
        let beside = TextStyle::from((FONT, 13)).pos(Pos::new(HPos::Left, VPos::Center));
        let text = Text::new(super::number::significant(dot.value), (9, 0), beside);
        chart.draw_series([EmptyElement::at(at(dot.range.1)) + text])?;
    }
    Ok(())
}
