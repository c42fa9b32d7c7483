//! Graphs by the shape of their batch, so that a shape that comes again is not traced again; a bounded number of them.

use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};
use mlx_rs::transforms::compile::compile;
use rerank_core::Device;

/// Rows, and tokens in each with padding.
pub(super) type Shape = (i32, i32);

type Graph = Box<dyn FnMut(&[Array]) -> Result<Vec<Array>>>;

/// Graphs kept: two row counts for each length of a model for 512 tokens. A graph is its nodes, not its buffers: some
/// hundred kilobytes for twelve layers.
const KEPT: usize = 64;

/// Makes and keeps graphs.
pub(super) enum Graphs {
    /// MLX traces the function once for a shape, merges what is alike and fuses elementwise operations into kernels.
    /// The graph used last comes last.
    Compiled(Vec<(Shape, Graph)>),
    /// The function runs anew for each batch.
    Direct,
}

impl Graphs {
    /// What suits the device. On the CPU MLX fuses by writing C++, calling the machine's compiler in the middle of a
    /// request and loading what came out from a folder in /tmp that anybody can write to. It took 1.0 s for GELU,
    /// which then was no faster (29 ms against 25), so graphs are compiled on the GPU alone.
    pub(super) fn on(device: Device) -> Self {
        match device {
            Device::Cpu => Self::Direct,
            Device::Cuda(_) | Device::Metal => Self::Compiled(Vec::new()),
        }
    }

    /// For `/info`.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Compiled(_) => format!("compiled by shape, at most {KEPT} kept"),
            Self::Direct => "built for each batch".to_owned(),
        }
    }

    /// Runs `function` over `arrays`; for one shape it must always do the same.
    pub(super) fn run(
        &mut self,
        shape: Shape,
        arrays: &[Array],
        function: impl Fn(&[Array]) -> Result<Vec<Array>> + 'static,
    ) -> Result<Vec<Array>> {
        let Self::Compiled(graphs) = self else { return function(arrays) };
        let found = graphs.iter().position(|(kept, _)| *kept == shape);
        let mut graph = match found {
            Some(index) => graphs.remove(index),
            None => (shape, Box::new(compile(function, None)) as Graph),
        };
        let outputs = (graph.1)(arrays);
        // A graph whose tracing failed is of no use; one that ran out of memory is made again in milliseconds.
        if outputs.is_ok() {
            if graphs.len() == KEPT {
                drop(graphs.remove(0));
            }
            graphs.push(graph);
        }
        outputs
    }
}

/// A function's only output.
pub(super) fn only(outputs: Vec<Array>) -> Result<Array> {
    let count = outputs.len();
    <[Array; 1]>::try_from(outputs)
        .map(|[only]| only)
        .map_err(|_| Exception::custom(format!("a graph with one output gave {count}")))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use mlx_rs::Array;
    use mlx_rs::error::Exception;

    use super::{Graphs, KEPT, only};

    #[test]
    fn a_shape_is_traced_once_while_it_is_kept_and_the_oldest_goes() {
        let traced = Rc::new(Cell::new(0));
        let mut graphs = Graphs::Compiled(Vec::new());
        let mut run = |rows: i32| {
            let ones = Array::from_slice(&vec![1.0_f32; rows as usize], &[rows]);
            let counter = Rc::clone(&traced);
            let twice = move |arrays: &[Array]| {
                counter.set(counter.get() + 1);
                Ok(vec![arrays[0].add(&arrays[0])?])
            };
            let sum = only(graphs.run((rows, 1), &[ones], twice).unwrap()).unwrap();
            assert_eq!(sum.as_slice::<f32>(), vec![2.0; rows as usize]);
            traced.get()
        };
        let kept = KEPT as i32;
        assert_eq!((1..=kept).map(&mut run).last(), Some(kept));
        assert_eq!(run(1), kept, "it is there");
        assert_eq!(run(kept + 1), kept + 1, "one more than is kept: 2 goes, which was used longest ago");
        assert_eq!(run(1), kept + 1);
        assert_eq!(run(2), kept + 2);
    }

    #[test]
    fn a_function_that_fails_is_not_kept() {
        let mut graphs = Graphs::Compiled(Vec::new());
        let fails = |_: &[Array]| Err(Exception::custom("no such layer"));
        assert!(graphs.run((1, 1), &[Array::from_f32(1.0)], fails).is_err());
        let same = |arrays: &[Array]| Ok(arrays.to_vec());
        assert!(graphs.run((1, 1), &[Array::from_f32(1.0)], same).is_ok());
    }
}
