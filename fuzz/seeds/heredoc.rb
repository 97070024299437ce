x = <<~A + <<-'B'
  one #{1 + "}"}
  A
  two
  B
y = %q(a (b) c)
