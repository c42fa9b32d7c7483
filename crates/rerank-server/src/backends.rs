//! `rerank-server backends`: what this build can run on this machine, and why it cannot run the rest.

use std::io::Write;

use anyhow::Result;
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use rerank_core::BackendFactory;

use crate::registry;

/// Prints the table to standard output.
pub fn print(compiled: &[&dyn BackendFactory]) -> Result<()> {
    let known: Vec<&str> = registry::known().collect();
    writeln!(std::io::stdout(), "{}", table(compiled, &known))?;
    Ok(())
}

/// One line a device; a backend that offers none has one with the reason.
fn table(compiled: &[&dyn BackendFactory], known: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["backend", "compiled in", "usable", "device", "dtypes, best first", "name or reason"]);
    for factory in compiled {
        match factory.probe() {
            Ok(devices) => {
                for info in devices {
                    let dtypes: Vec<String> = info.dtypes.iter().map(ToString::to_string).collect();
                    let device = info.device.to_string();
                    table.add_row([factory.name(), "yes", "yes", &device, &dtypes.join(" "), &info.name]);
                }
            }
            Err(unavailable) => {
                table.add_row([factory.name(), "yes", "no", "", "", &unavailable.reason]);
            }
        }
    }
    for name in known.iter().filter(|name| compiled.iter().all(|factory| factory.name() != **name)) {
        let remedy = format!("rebuild with `--features {name}`");
        table.add_row([*name, "no", "no", "", "", &remedy]);
    }
    table
}

#[cfg(test)]
mod tests {
    use rerank_core::{Backend, BackendError, DType, Device, DeviceInfo, LoadSpec, Unavailable};

    use super::*;

    struct Fake(&'static str, bool);

    impl BackendFactory for Fake {
        fn name(&self) -> &'static str {
            self.0
        }

        fn probe(&self) -> Result<Vec<DeviceInfo>, Unavailable> {
            let info = |device, name: &str| DeviceInfo {
                device,
                name: name.into(),
                dtypes: vec![DType::F16, DType::F32],
            };
            if self.1 {
                Ok(vec![info(Device::Cuda(0), "NVIDIA H100"), info(Device::Cpu, "EPYC")])
            } else {
                Err(Unavailable::new("no Apple GPU; MLX needs one"))
            }
        }

        fn load(&self, _: &LoadSpec) -> Result<Box<dyn Backend>, BackendError> {
            unreachable!("listing loads nothing")
        }
    }

    #[test]
    fn every_backend_has_a_line_and_every_absence_a_reason() {
        let table = table(&[&Fake("mlx", false), &Fake("candle", true)], &["candle", "mlx", "torch"]);
        insta::assert_snapshot!(table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n"), @r"
        ────────────────────────────────────────────────────────────────────────────────────────────────
         backend   compiled in   usable   device   dtypes, best first   name or reason
        ════════════════════════════════════════════════════════════════════════════════════════════════
         mlx       yes           no                                     no Apple GPU; MLX needs one
        ────────────────────────────────────────────────────────────────────────────────────────────────
         candle    yes           yes      cuda:0   f16 f32              NVIDIA H100
        ────────────────────────────────────────────────────────────────────────────────────────────────
         candle    yes           yes      cpu      f16 f32              EPYC
        ────────────────────────────────────────────────────────────────────────────────────────────────
         torch     no            no                                     rebuild with `--features torch`
        ────────────────────────────────────────────────────────────────────────────────────────────────
        ");
    }
}
