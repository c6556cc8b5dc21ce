//! The pictures of `docs/scaling.md`: requests above, workers below.

use std::fmt::Write as _;
use std::path::Path;

/// One second of the simulation.
pub struct Moment {
    pub arrivals: f64,
    pub backlog: f64,
    pub workers: u32,
    pub wanted: u32,
    pub is_closed: bool,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 120.0;
const LEFT: f64 = 60.0;
/// Seconds between two points of a line.
const STEP: usize = 5;

/// Compares the picture with the one of the docs, or writes it.
pub fn compare(name: &str, moments: &[Moment]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/images/scaling-{name}.svg"));
    let drawn = draw(name, moments);
    if std::env::var_os("OTPOST_BLESS").is_some() {
        std::fs::write(&path, &drawn).expect("docs/images is writable");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == drawn, "{} is not up to date: OTPOST_BLESS=1 writes it", path.display());
}

fn draw(name: &str, moments: &[Moment]) -> String {
    let total = 2.0 * HEIGHT + 70.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {total}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <title>{name}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        LEFT + WIDTH + 40.0
    );
    closed_time(&mut svg, moments);
    let requests =
        Panel::new(&mut svg, 20.0, "requests", moments, |moment| moment.backlog.max(moment.arrivals));
    requests.line(&mut svg, moments, |moment| moment.backlog, "#b3261e", "");
    requests.line(&mut svg, moments, |moment| moment.arrivals, "#666", "");
    label(&mut svg, LEFT, 14.0, "#b3261e", "waiting");
    label(&mut svg, LEFT + 60.0, 14.0, "#666", "arriving in a second");
    let workers = Panel::new(&mut svg, HEIGHT + 45.0, "workers", moments, |moment| {
        f64::from(moment.workers.max(moment.wanted))
    });
    workers.line(&mut svg, moments, |moment| f64::from(moment.wanted), "#999", " stroke-dasharray=\"3 2\"");
    workers.line(&mut svg, moments, |moment| f64::from(moment.workers), "#0b57d0", "");
    label(&mut svg, LEFT, HEIGHT + 39.0, "#0b57d0", "running");
    label(&mut svg, LEFT + 60.0, HEIGHT + 39.0, "#999", "wanted");
    for minute in (0..=moments.len() / 60).step_by(5) {
        let x = LEFT + x_of(minute * 60, moments.len());
        label(&mut svg, x, total - 8.0, "#333", &format!("{minute} min"));
    }
    svg + "</svg>\n"
}

/// A grey ground while the send gate is closed.
fn closed_time(svg: &mut String, moments: &[Moment]) {
    let Some(from) = moments.iter().position(|moment| moment.is_closed) else { return };
    let until = moments.iter().rposition(|moment| moment.is_closed).expect("there is one") + 1;
    let (x, end) = (LEFT + x_of(from, moments.len()), LEFT + x_of(until, moments.len()));
    writeln!(
        svg,
        "<rect x=\"{x:.0}\" y=\"20\" width=\"{:.0}\" height=\"{:.0}\" fill=\"#eee\"/>",
        end - x,
        2.0 * HEIGHT + 25.0
    )
    .expect("a string takes all");
    label(svg, x + 4.0, 32.0, "#333", "gate closed");
}

fn label(svg: &mut String, x: f64, y: f64, colour: &str, text: &str) {
    writeln!(svg, "<text x=\"{x:.0}\" y=\"{y:.0}\" fill=\"{colour}\">{text}</text>")
        .expect("a string takes all");
}

fn x_of(second: usize, seconds: usize) -> f64 {
    WIDTH * second as f64 / seconds as f64
}

struct Panel {
    top: f64,
    most: f64,
}

impl Panel {
    /// Draws the axes.
    fn new(
        svg: &mut String,
        top: f64,
        unit: &str,
        moments: &[Moment],
        value: impl Fn(&Moment) -> f64,
    ) -> Panel {
        let most = moments.iter().map(value).fold(1.0, f64::max);
        let bottom = top + HEIGHT;
        writeln!(svg, "<path d=\"M{LEFT} {top}V{bottom}H{}\" fill=\"none\" stroke=\"#333\"/>", LEFT + WIDTH)
            .expect("a string takes all");
        label(svg, 4.0, top + 10.0, "#333", &format!("{most:.0}"));
        label(svg, 4.0, bottom, "#333", &format!("0 {unit}"));
        Panel { top, most }
    }

    fn line(
        &self,
        svg: &mut String,
        moments: &[Moment],
        value: impl Fn(&Moment) -> f64,
        colour: &str,
        more: &str,
    ) {
        let mut points = String::new();
        for (second, moment) in moments.iter().enumerate().step_by(STEP) {
            let y = self.top + HEIGHT * (1.0 - value(moment) / self.most);
            write!(points, "{:.0},{y:.1} ", LEFT + x_of(second, moments.len())).expect("a string takes all");
        }
        let points = points.trim_end();
        writeln!(svg, "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\"{more}/>")
            .expect("a string takes all");
    }
}
