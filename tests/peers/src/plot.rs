//! A plot, as SVG.

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 60.0;
/// Told apart also by who sees no red and green.
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// How an axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Into decades.
    Logarithmic,
    /// From zero.
    Linear,
}

/// An axis over some values: its ends (exponents, if it is logarithmic), and the values that are named.
struct Scale {
    axis: Axis,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Scale {
    fn over(axis: Axis, values: impl Iterator<Item = f64> + Clone) -> Self {
        let most = values.clone().fold(1e-2, f64::max);
        match axis {
            Axis::Logarithmic => {
                let low = values.fold(f64::INFINITY, f64::min).max(1e-3).log10().floor();
                let high = most.log10().ceil().max(low + 1.0);
                Self { axis, low, high, ticks: (low as i32..=high as i32).map(|n| 10_f64.powi(n)).collect() }
            }
            Axis::Linear => {
                let decade = 10_f64.powf(most.log10().floor());
                let steps = [0.1, 0.2, 0.5, 1.0].map(|share| share * decade);
                let step = steps.into_iter().find(|step| most / step <= 10.0).unwrap_or(decade);
                let count = (most / step).ceil() as u32;
                let ticks = (0..=count).map(|n| f64::from(n) * step).collect();
                Self { axis, low: 0.0, high: f64::from(count) * step, ticks }
            }
        }
    }

    /// Where a value stands between the ends.
    fn share(&self, value: f64) -> f64 {
        let value = if self.axis == Axis::Logarithmic { value.log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }
}

pub fn draw(title: &str, x: (&str, Axis), y: (&str, Axis), lines: &[(String, Vec<(f64, f64)>)]) -> String {
    let all: Vec<(f64, f64)> = lines.iter().flat_map(|(_, points)| points).copied().collect();
    let xs = Scale::over(x.1, all.iter().map(|point| point.0));
    let ys = Scale::over(y.1, all.iter().map(|point| point.1));
    let at_x = |value: f64| LEFT + xs.share(value) * (WIDTH - LEFT - RIGHT);
    let at_y = |value: f64| HEIGHT - BOTTOM - ys.share(value) * (HEIGHT - TOP - BOTTOM);
    let (x, y) = (x.0, y.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{title}</text>\n"
    );
    for value in &xs.ticks {
        let at = at_x(*value);
        out += &format!(
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>\n<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>\n",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 18.0
        );
    }
    for value in &ys.ticks {
        let at = at_y(*value);
        out += &format!(
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>\n",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0
        );
    }
    for (number, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y))).collect();
        out += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
            path.join(" ")
        );
        for (x, y) in points {
            out += &format!("<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"/>\n", at_x(*x), at_y(*y));
        }
        let y = TOP + 14.0 + 18.0 * number as f64;
        out += &format!("<text x=\"{:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{name}</text>\n", LEFT + 12.0);
    }
    out += &format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x}</text>\n<text x=\"18\" y=\"{:.1}\" transform=\"rotate(-90 18 {:.1})\" text-anchor=\"middle\">{y}</text>\n</svg>\n",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 16.0,
        HEIGHT / 2.0,
        HEIGHT / 2.0
    );
    out
}
